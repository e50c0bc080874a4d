"""The downstream tasks: classifiers on pretrained encoders, and the tables of their runs."""
