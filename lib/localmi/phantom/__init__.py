"""The synthetic study: chest radiographs and reports whose true MI and regions are known."""
