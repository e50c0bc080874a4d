from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.errors import DataError
from localmi.notebook.lint import lint_folder, lint_notebook

Parts = dict[str, list[Any]]


def printing(text: str) -> Any:
    return new_code_cell(
        "print(1)", outputs=[new_output("stream", name="stdout", text=text)], metadata={"tags": []}
    )


def showing(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    output = new_output("display_data", data=data, metadata=metadata or {})
    return new_code_cell("1", outputs=[output], metadata={"tags": []})


def source(part: str, text: str, place: int = 0) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[part][place].source = text

    return change


def add(cell: Any) -> Callable[[Parts], None]:
    return lambda parts: parts["body"].append(cell)


def tagged(part: str, *tags: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[part][0].metadata["tags"] = list(tags)

    return change


def swapped(first: str, second: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[first], parts[second] = parts[second], parts[first]

    return change


def uncollapsed(parts: Parts) -> None:
    del parts["exercises"][1].metadata["jupyter"]


def solution_fails(parts: Parts) -> None:
    parts["exercises"][1].outputs[0].text = "exercise 5.1: not yet: wrong"


def stub_passes(parts: Parts) -> None:
    parts["exercises"][0].outputs[0].text = "exercise 5.1: right"


def no_solution(parts: Parts) -> None:
    del parts["exercises"][1]


def one_exercise(parts: Parts) -> None:
    del parts["exercises"][:2]


def changed(part: str, words: str, others: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[part][0].source = parts[part][0].source.replace(words, others, 1)

    return change


def without(part: str) -> Callable[[Parts], None]:
    return lambda parts: parts.update({part: []})


FAULTS = [
    (source("title", "A notebook"), "must be Markdown and start with the title"),
    (source("card", "**Data**: x"), "lacks **You will be able to**, **Before this**"),
    (tagged("setup"), "must be tagged `setup`"),
    (source("setup", "import torch"), "call set_up()"),
    (source("setup", "set_up()\n" * 11), "more than 10 lines"),
    (tagged("parameters"), "must be tagged `parameters`"),
    (swapped("parameters", "body"), "must be tagged `parameters`"),
    (without("key points"), "no heading `## Key points`"),
    (without("quiz"), "no heading `## Quiz`"),
    (swapped("quiz", "key points"), "the order at the end"),
    (changed("quiz", "**Question 6.**", "6"), "5 questions in the quiz; 6"),
    (changed("quiz", "**Right.**", "**No.**"), "question 1 of the quiz: at least three"),
    (changed("quiz", "**No.** So.", "**No.**"), "question 1 of the quiz: at least three"),
    (changed("quiz", "**No.** So.", "**Right.** So."), "question 1 of the quiz: at least three"),
    (without("references"), "no heading `## References`"),
    (source("references", "## References\n\n- Liao"), "no DOI"),
    (tagged("record"), "must be tagged `record`"),
    (swapped("key points", "references"), "the order at the end"),
    (one_exercise, "1 exercises; at least 2"),
    (no_solution, "exercise_5_1 needs a check cell and"),
    (solution_fails, "should say 'exercise 5.1: right'"),
    (stub_passes, "should say 'exercise 5.1: not tried yet'"),
    (uncollapsed, "a solution is collapsed"),
    (source("body", "It gives **1.85 nats**."), "**1.85** is in no stored output"),
    (source("body", "See [this](06_none.ipynb)."), "06_none.ipynb leads nowhere"),
    (source("body", "![](../LICENSE)"), "has no alt text"),
    (add(new_code_cell("a = 1\n" * 21)), "21 lines"),
    (add(new_code_cell("!ls")), "not plain Python"),
    (add(new_code_cell("%load_ext autoreload")), "not plain Python"),
    (add(new_code_cell("files = !ls")), "not plain Python"),
    (add(new_code_cell("get_ipython().system('ls')")), "get_ipython()"),
    (add(new_code_cell("plt.plot(x);")), "`;` at the end"),
    (add(new_code_cell("1", metadata={"tags": ["raises-exception"]})), "raises-exception"),
    (
        add(new_code_cell("1", outputs=[new_output("error", ename="E", evalue="", traceback=[])])),
        "a stored error",
    ),
    (add(showing({"image/png": "iVBO"})), "a figure without alt text"),
    (add(showing({"image/svg+xml": "<svg/>"})), "an SVG figure"),
    (add(showing({"text/html": "<img src='x'>"})), "<img> without alt text"),
    (add(printing("patient p1" + "0000032")), "may be an id of MIMIC"),
    (add(printing("study 5" + "0414267")), "may be an id of MIMIC"),
    (add(new_markdown_cell("as in s5" + "0414267")), "may be an id of MIMIC"),
    (add(printing("hadm_id 2" + "3456789")), "may be an id of MIMIC"),
    (add(printing("saved in /scratch/me/x.pt")), "path of one machine"),
    (add(new_code_cell("open('/data/mimic/x')")), "path of one machine"),
    (source("parameters", "a: int | None = 1  # x"), "papermill cannot read"),
    (source("parameters", "a: Literal[1] = 1  # x"), "papermill cannot read"),
    (source("parameters", "a = 1  # b = 2"), "papermill cannot read"),
    (source("parameters", "a = 1"), "`name = value  # comment`"),
    (source("parameters", "a = [\n    1,\n]  # x"), "`name = value  # comment`"),
]


def test_a_good_notebook_has_no_problem(write_notebook: Any, good_cells: Parts) -> None:
    assert [str(problem) for problem in lint_notebook(write_notebook(good_cells))] == []


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_each_fault_is_found(
    write_notebook: Any, good_cells: Parts, fault: Callable[[Parts], None], words: str
) -> None:
    fault(good_cells)
    problems = [str(problem) for problem in lint_notebook(write_notebook(good_cells))]
    assert any(words in problem for problem in problems), problems


def test_counts_that_are_missing_are_found(write_notebook: Any, good_cells: Parts) -> None:
    problems = lint_notebook(write_notebook(good_cells, counts=False))
    assert {"make render" in problem.words for problem in problems} == {True}
    assert problems[0].cell == 2


@pytest.mark.parametrize(
    "cell",
    [
        new_code_cell("%matplotlib inline\na = 1"),
        new_code_cell('text = """\n%not a magic\n!nor a shell line\n"""'),
        new_markdown_cell("In $f[i](x)$ and `a[0](b)`, 1/2/3; <https://doi.org/10.1007/978-3>"),
        new_markdown_cell("A **bold word**, a link to [all](#part) and **-1.84** again."),
        showing({"image/png": "iVBO"}, {"image/png": {"alt": "a picture"}}),
        printing("11,689,512 parameters; 0.12345678; 20240101; p90000412, s80000010"),
    ],
)
def test_what_is_allowed(write_notebook: Any, good_cells: Parts, cell: Any) -> None:
    good_cells["body"].append(cell)
    assert [str(problem) for problem in lint_notebook(write_notebook(good_cells))] == []


def test_a_dictionary_of_parameters_may_take_several_lines(
    write_notebook: Any, good_cells: Parts
) -> None:
    good_cells["parameters"][0].source += """
further: dict = {  # other fields of localmi.train.config.TrainConfig
    "max_tokens": 32,
    "critic_hidden": [256],
}"""
    assert [str(problem) for problem in lint_notebook(write_notebook(good_cells))] == []


def test_the_command(write_notebook: Any, good_cells: Parts, tmp_path: Path) -> None:
    def call(folder: Path) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["lint", str(folder)])
        return done.exit_code, done.output

    path = write_notebook(good_cells)
    code, printed = call(path.parent)
    assert code == 0
    assert "1 notebooks, 0 problems" in printed
    source("title", "no title")(good_cells)
    write_notebook(good_cells)
    code, printed = call(path.parent)
    assert code == 1
    assert "05_small.ipynb, cell 0: " in printed
    assert "1 notebooks, 1 problems" in printed
    path.write_text("not a notebook")
    for folder in (tmp_path / "none", path.parent):
        code, printed = call(folder)
        assert code == 2
        assert printed.startswith("DataError: ")


def test_what_cannot_be_checked_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder .*none"):
        lint_folder(tmp_path / "none")
    (tmp_path / "05_small.ipynb").write_text("not a notebook")
    with pytest.raises(DataError, match="05_small.ipynb is not a notebook"):
        lint_folder(tmp_path)
