"""Which sizes of image go with an encoder and its grid.

A region must be a whole square of pixels. All that is shown of it, and scored by its place (the
winner's centre, the cells of a map), is the image divided by the grid; an encoder that rounds up
on its way would see other pixels.
"""

from localmi.errors import ConfigError

SMALLEST = 64  # pixels a side: no size below is advised


def check_grid(image_size: int, grid: int, *, block: int, stride: int) -> None:
    """Refuses a size or a grid by which regions are not whole.

    Args:
        image_size: side of the images, in pixels.
        grid: regions a side.
        block: that is divided into regions; 0: the image itself.
        stride: pixels from one value of that block to the next.

    Raises:
        ConfigError: says which sizes, or which grids, go.
    """
    side, rest = divmod(image_size, stride)
    if rest:
        raise ConfigError(
            f"image_size={image_size}, grid={grid}: regions are cut from block {block}, of "
            f"{stride} x {stride} pixels a value. Use {_nearest(image_size, stride * grid)}."
        )
    if side % grid:
        raise ConfigError(
            f"grid={grid}: the local block of this encoder is {side} x {side} at image_size="
            f"{image_size}, which {grid} does not divide. Use a divisor of {side}, or "
            f"{_nearest(image_size, stride * grid)}."
        )


def check_patches(
    image_size: int, name: str, *, patch: int, parameter: str = "image_size"
) -> None:
    """Refuses images that do not consist of patches of this many pixels a side.

    Raises:
        ConfigError: says which sizes do.
    """
    if image_size % patch:
        raise ConfigError(
            f"{parameter}={image_size}: {name} cuts an image into patches of {patch} x {patch} "
            f"pixels. Use {_nearest(image_size, patch, parameter)}."
        )


def _nearest(image_size: int, step: int, parameter: str = "image_size") -> str:
    """The multiples of `step` around a size, in words."""
    below, least = image_size // step * step, SMALLEST if parameter == "image_size" else step
    return f"{parameter}={below + step}" + (f" or {below}" if below >= least else "")
