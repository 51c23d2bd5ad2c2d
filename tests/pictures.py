"""What tests of pictures share: what is on the axes, whether labels keep apart, whether two pictures look alike."""

import itertools

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter


def lines(ax, label):
    """The one line or collection with a label."""
    found = [line for line in [*ax.lines, *ax.collections] if line.get_label() == label]
    assert len(found) == 1, label
    return found[0]


def assert_apart(*texts):
    """Check that no label that is drawn overlaps another one."""
    texts = [text for text in texts if text.get_text()]
    texts[0].figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (first, box), (second, other) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other), (first, second)


def pixels(file, width=None):
    """The colours of a picture, shrunk to a width: (height, width, 3), from 0 to 255."""
    picture = Image.open(file).convert("RGB")
    if width is not None:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.BOX)
    return np.asarray(picture, dtype=float)


def difference(found, expected, reach, over):
    """How far a picture is outside of what stands within some pixels in the other, at the worst place, 0 to 255.

    By a pixel or two do letters move between versions of matplotlib and FreeType, which a difference pixel by pixel
    takes for another picture. What is farther moved, missing, new or of another colour is outside of the colours
    around it, in one picture or in the other. At every place the mean over a square counts.
    """
    window = (2 * reach + 1, 2 * reach + 1, 1)
    outside = [
        np.maximum(one - maximum_filter(other, window), minimum_filter(other, window) - one).clip(min=0.0)
        for one, other in ((found, expected), (expected, found))
    ]
    return float(uniform_filter(np.maximum(*outside), (over, over, 1)).max())
