"""What a notebook imports to teach: checks, figures, the first line."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "check": "",
        "start": "set_up",
        "plots": "COLOURS PALETTE Curve contact_sheet plot_mi plot_radiograph show",
        "sliders": "play",
        "handout": "until_solved",
        "error_map": "mean_errors plot_errors",
    },
)
