"""The benchmark that judges logs of public repositories."""

from benchmarks.failures import LABELS

from taskorch.ext.recovery import CLASSES


def test_the_labels_are_classes():
    """Each log stands there once, and a project is of one half."""
    halves = {}
    lines = LABELS.read_text().splitlines()
    assert len({line.split(" ", 2)[2] for line in lines}) == len(lines)
    for line in lines:
        half, classes, path = line.split(" ", 2)
        assert set(classes.split("|")) <= set(CLASSES)
        project = path.rsplit("/", 2)[0] if path.startswith("master") else path
        assert halves.setdefault(project, half) == half
