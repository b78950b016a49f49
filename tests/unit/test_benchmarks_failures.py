"""The benchmark that judges logs of public repositories."""

from benchmarks.failures import LABELS, main

from taskorch.recovery import CLASSES


def test_it_judges_what_logs_it_has(tmp_path, capsys):
    """A line for each set; those that are missing are left out."""
    assert main([str(tmp_path)]) == 1
    path = LABELS.read_text().splitlines()[1].split(" ", 2)[2]
    log = tmp_path / path
    log.parent.mkdir(parents=True)
    log.write_text("src/a.c:1:2: error: no such member\n")
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "1 logs, 100% right, macro-F1 1.00, permanent run again 0 of 1" in printed


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
