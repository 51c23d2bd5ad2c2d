"""What tests of pictures share: what is on the axes, and whether labels keep apart."""

import itertools


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
