import shutil
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from localmi.downstream.config import DownstreamConfig
from localmi.errors import CheckpointError, ConfigError, DataError
from localmi.files import REPOSITORY
from localmi.model.image import ResNet256
from localmi.notebook import parameters
from localmi.notebook.parameters import (
    Parameter,
    Parameters,
    parameters_of,
    read_notebook,
    recorded,
    resolve,
)
from localmi.train.config import TrainConfig

OF_TRAIN = "# other fields of localmi.train.config.TrainConfig"
TRAIN = f"""objective = "local"  # local or global
bound = "infonce"  # which one
steps = 40  # gradient steps
data_dir = ""  # folder of the data
further: dict = {{"cells_after": 2, "critic_hidden": [256]}}  {OF_TRAIN}"""
DOWNSTREAM = """mode = "tuned"  # tuned, frozen or probe
image_size = 64  # pixels a side
further: dict = {}  # other fields of localmi.downstream.config.DownstreamConfig"""
SEVERAL_LINES = f"""steps = 2  # gradient steps
further: dict = {{  {OF_TRAIN}
    "max_tokens": 32,  # of a sentence
    "critic_hidden": [
        256,
    ],
}}
run_dir = ""  # where results are kept"""


def notebook_with(source: str, copies: int = 1) -> nbformat.NotebookNode:
    cell = {"source": source, "metadata": {"tags": ["parameters"]}}
    return new_notebook(cells=[new_code_cell(**cell) for _ in range(copies)])


def parameters_in(source: str) -> Parameters:
    return parameters_of(notebook_with(source), "05.ipynb")


@pytest.fixture
def known(good_cells: Any) -> Parameters:
    return parameters_of(new_notebook(cells=good_cells["parameters"]), "05.ipynb")


@pytest.fixture
def training() -> Parameters:
    """Of a notebook that trains: a few fields of its configuration in the cell."""
    return parameters_in(TRAIN)


def test_reads_name_type_default_and_comment(known: Parameters) -> None:
    assert [p.name for p in known.cell.values()][:3] == ["steps", "rate", "name"]
    assert known.cell["rate"] == Parameter("rate", float, 5e-4, "learning rate")
    assert known.cell["seeds"].type_name == "list[int]"
    assert known.where == "05.ipynb"


def test_letters_of_any_language_leave_the_comment_whole() -> None:
    (found,) = parameters_in('name = "äöüß"  # a comment').cell.values()
    assert (found.default, found.comment) == ("äöüß", "a comment")


def test_reads_what_papermill_reads(write_notebook: Any, good_cells: Any) -> None:
    path = write_notebook(good_cells)
    found = parameters_of(parameters.read_notebook(path), "05.ipynb").cell
    theirs = papermill.inspect_notebook(str(path))
    assert list(theirs) == list(found)
    assert {name: each["help"] for name, each in theirs.items()} == {
        name: each.comment for name, each in found.items()
    }


@pytest.mark.parametrize("source", [TRAIN, SEVERAL_LINES])
def test_papermill_can_set_what_is_read(
    write_notebook: Any, good_cells: Any, source: str, tmp_path: Path
) -> None:
    good_cells["parameters"][0].source = source
    path = write_notebook(good_cells)
    values = resolve(parameters_in(source), {"further": {"max_tokens": 99, "augment": False}}, {})
    assert list(papermill.inspect_notebook(str(path))) == list(values)
    made = papermill.execute_notebook(
        str(path), None, parameters=values, kernel_name="python3", prepare_only=True
    )
    (injected,) = (
        cell for cell in made.cells if "injected-parameters" in cell.metadata.get("tags", [])
    )
    found: dict[str, Any] = {}
    exec(injected.source, found)
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("steps", "7", 7),
        ("steps", "-7", -7),
        ("rate", "1e-3", 1e-3),
        ("rate", "1", 1.0),
        ("flag", "false", False),
        ("flag", "True", True),
        ("name", "1", "1"),
        ("seeds", "[3, 4]", [3, 4]),
    ],
)
def test_a_word_becomes_the_value_it_means(
    known: Parameters, name: str, word: str, value: object
) -> None:
    parameter = known.cell[name]
    found = parameters.check_value(parameter, parameters.parse_text(parameter, word))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("steps", "7.5"),
        ("steps", "many"),
        ("steps", "true"),
        ("flag", "1"),
        ("flag", "maybe"),
        ("rate", "fast"),
        ("seeds", "3"),
        ("seeds", "[1.5]"),
        ("seeds", "[1,"),
    ],
)
def test_a_wrong_type_is_refused(known: Parameters, name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"Parameter {name} must be"):
        resolve(known, {}, {name: word})


OF_COMMENTS = """steps = 2  # of each fit, at least 1, at most
rate = 0.5  # of Adam, above 0
seeds: list[int] = [1]  # of the map, at least 0
names: list[str] = ["few"]  # of tasks
also: list[str] = []  # of tasks"""


@pytest.mark.parametrize(
    ("name", "word"),
    [("steps", "1"), ("rate", "1e-9"), ("seeds", "[0, 3]"), ("names", "[a]"), ("also", "[]")],
)
def test_a_value_within_the_range_of_its_comment_is_taken(name: str, word: str) -> None:
    assert name in resolve(parameters_in(OF_COMMENTS), {}, {name: word})


@pytest.mark.parametrize(
    ("name", "word", "words"),
    [
        ("steps", "0", "steps must be at least 1; it was given 0"),
        ("steps", "-3", "at least 1"),
        ("rate", "0", "rate must be above 0; it was given 0"),
        ("rate", "nan", "above 0"),
        ("seeds", "[0, -1]", "seeds must be at least 0; it was given -1"),
        ("steps", str(2**63), "steps must be below 2.63; it was given 9,223,372,036,854,775,808"),
        ("seeds", f"[0, {10**400}]", "seeds must be below"),
        ("seeds", "[]", "seeds is an empty list"),
        ("names", "[]", "names is an empty list"),
    ],
)
def test_a_value_beyond_the_range_of_its_comment_is_refused(
    name: str, word: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(parameters_in(OF_COMMENTS), {}, {name: word})


def test_the_file_may_write_floats_as_yaml_reads_them(known: Parameters) -> None:
    assert resolve(known, {"rate": "1e-3"}, {})["rate"] == 1e-3
    with pytest.raises(ConfigError, match="must be str"):
        resolve(known, {"name": 1}, {})


def test_the_command_line_goes_over_the_file(known: Parameters) -> None:
    assert resolve(known, {"steps": 3}, {"steps": "4"})["steps"] == 4
    assert resolve(known, {"steps": 3}, {})["steps"] == 3


def test_an_unknown_name_is_refused_with_the_closest(known: Parameters) -> None:
    with pytest.raises(ConfigError, match="no parameter stesp. Did you mean steps?"):
        resolve(known, {}, {"stesp": "3"})
    with pytest.raises(ConfigError, match="no parameter zzz. It has: steps, rate"):
        resolve(known, {"zzz": 3}, {})


def test_a_data_folder_must_exist(known: Parameters, tmp_path: Path) -> None:
    assert resolve(known, {}, {})["data_dir"] == ""
    assert resolve(known, {}, {"data_dir": str(tmp_path)})["data_dir"] == str(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        resolve(known, {}, {"data_dir": str(tmp_path / "no")})


def test_a_data_folder_is_taken_from_where_the_command_is_given(
    known: Parameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(known, {}, {"data_dir": "mine"})["data_dir"] == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "source", ["import os", "a = b = 1", "a = f()", "a: set = {1}", "a, b = 1, 2", "a: int"]
)
def test_a_parameters_cell_holds_only_plain_values(source: str) -> None:
    with pytest.raises(ConfigError, match="05.ipynb"):
        parameters_in(source)


def test_exactly_one_parameters_cell() -> None:
    for copies in (0, 2):
        with pytest.raises(ConfigError, match=f"has {copies} cells tagged"):
            parameters_of(notebook_with("a = 1", copies), "05.ipynb")
    with pytest.raises(ConfigError, match="not Python"):
        parameters_in("a = ")


def test_a_notebook_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no notebook"):
        parameters.read_notebook(tmp_path / "05.ipynb")
    (tmp_path / "05_encoders.ipynb").touch()
    with pytest.raises(DataError, match=r"Did you mean .*05_encoders\.ipynb\?"):
        parameters.read_notebook(tmp_path / "05_encoder")
    (tmp_path / "05.ipynb").write_text("{")
    with pytest.raises(DataError, match="not a notebook"):
        parameters.read_notebook(tmp_path / "05.ipynb")


def test_the_table_has_a_line_for_each(known: Parameters) -> None:
    lines = parameters.table(known).splitlines()
    assert len(lines) == len(known.cell) + 1
    assert lines[2].split() == ["rate", "float", "0.0005", "learning", "rate"]


# --- A notebook's own configuration, and no other ----------------------------------------------


def test_a_notebook_names_its_configuration(known: Parameters, training: Parameters) -> None:
    assert (known.configuration, known.further) == (None, {})
    assert training.configuration is TrainConfig
    assert parameters_in(DOWNSTREAM).configuration is DownstreamConfig


def test_the_further_fields_are_those_not_in_the_cell(training: Parameters) -> None:
    """With the defaults of the notebook, or else of the configuration."""
    further = training.further
    in_cell = {"objective", "bound", "steps"}
    assert further.keys() == TrainConfig.model_fields.keys() - in_cell
    assert further["cells_after"].default == 2
    assert further["cells_after"].comment == "block after which the cells are cut"
    assert further["critic_hidden"].default == [256]
    assert further["max_tokens"].default == 64
    assert further["direction"].type_name == "image_to_text or text_to_image or symmetric"


def test_a_dictionary_may_take_several_lines() -> None:
    found = parameters_in(SEVERAL_LINES)
    assert found.configuration is TrainConfig
    assert list(found.cell) == ["steps", "further", "run_dir"]
    assert found.cell["further"].default == {"max_tokens": 32, "critic_hidden": [256]}
    assert found.cell["further"].comment == OF_TRAIN.removeprefix("# ")
    assert found.cell["run_dir"].comment == "where results are kept"


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "# the other fields",
        "# of TrainConfig",
        "# of localmi.train.config",
        "# of localmi.train.nowhere.TrainConfig",
        "# of localmi.train.config.NoConfig",
        "# of localmi.errors.ConfigError",
    ],
)
def test_a_comment_that_names_no_configuration_is_refused(comment: str) -> None:
    with pytest.raises(ConfigError, match="comment of further in 05.ipynb must name the config"):
        parameters_in(f"steps = 2  # how many\nfurther: dict = {{}}  {comment}")


def test_without_a_configuration_names_mean_what_the_notebook_means() -> None:
    known = parameters_in('steps = 2  # .\nbound = "infonce"  # .')
    values = resolve(known, {"bound": "cpc"}, {"steps": "1"})
    assert values == {"steps": 1, "bound": "cpc"}


def test_choices_and_ranges_of_the_configuration_hold(training: Parameters) -> None:
    with pytest.raises(ConfigError, match="bound.*'cpc'"):
        resolve(training, {}, {"bound": "cpc"})
    with pytest.raises(ConfigError, match="steps: .*greater than or equal to 1"):
        resolve(training, {}, {"steps": "0"})
    with pytest.raises(ConfigError, match="cells_after=2 comes after local_stage=1"):
        resolve(training, {}, {"local_stage": "1"})  # with a default of the notebook's


def test_those_of_another_configuration_do_not() -> None:
    known = parameters_in(DOWNSTREAM)
    assert resolve(known, {}, {"image_size": "32"})["image_size"] == 32  # TrainConfig's is 64
    with pytest.raises(ConfigError, match="mode: .*'tuned', 'frozen' or 'probe'.*'nonsense'"):
        resolve(known, {}, {"mode": "nonsense"})
    with pytest.raises(ConfigError, match="no parameter bound"):
        resolve(known, {}, {"bound": "infonce"})


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("max_tokens", "320", 320),
        ("temperature_end", "5e-2", 0.05),
        ("augment", "false", False),
        ("direction", "symmetric", "symmetric"),
        ("text_encoder", "1", "1"),
        ("critic_hidden", "[16, 8]", [16, 8]),
        ("cells_after", "0", 0),  # which the notebook itself sets
    ],
)
def test_a_field_is_set_by_its_name(
    training: Parameters, name: str, word: str, value: object
) -> None:
    own = {"cells_after": 2, "critic_hidden": [256]}
    for given in (({}, {name: word}), ({name: value}, {}), ({name: value}, {name: word})):
        values = resolve(training, *given)
        assert values["further"] == {**own, name: value}
        assert type(values["further"][name]) is type(value)
        assert values.keys() == training.cell.keys()
    assert resolve(training, {}, {})["further"] == own


@pytest.mark.parametrize(
    ("name", "word", "words"),
    [
        ("max_tokens", "many", "Parameter max_tokens must be int"),
        ("max_tokens", "7", "max_tokens: .*greater than or equal to 8"),
        ("augment", "perhaps", "Parameter augment must be bool"),
        ("direction", "upwards", "direction must be image_to_text or text_to_image or symmetric"),
        ("critic_hidden", "16", "Parameter critic_hidden must be list"),
        ("critic_hidden", "[0]", "critic_hidden"),
        ("temperature", "nan", "temperature: .*finite"),
    ],
)
def test_a_wrong_value_of_a_field_is_refused(
    training: Parameters, name: str, word: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(training, {}, {name: word})


def test_the_closest_name_is_of_the_cell_or_the_configuration(training: Parameters) -> None:
    for wrong, right in (("stesp", "steps"), ("max_token", "max_tokens"), ("data_dri", "data_d")):
        with pytest.raises(ConfigError, match=f"no parameter {wrong}. Did you mean {right}"):
            resolve(training, {}, {wrong: "3"})
    with pytest.raises(ConfigError, match="no parameter zzz. It has: objective, .*, max_tokens, "):
        resolve(training, {"zzz": 3}, {})


def test_a_dictionary_of_fields_goes_over_the_notebooks(training: Parameters) -> None:
    expected = {"cells_after": 0, "critic_hidden": [256], "max_tokens": 32}
    given = {"cells_after": 0, "max_tokens": 32}
    assert resolve(training, {"further": given}, {})["further"] == expected
    words = "{cells_after: 0, max_tokens: 32}"
    assert resolve(training, {}, {"further": words})["further"] == expected
    assert training.cell["further"].default == {"cells_after": 2, "critic_hidden": [256]}


@pytest.mark.parametrize(
    ("from_file", "from_command"),
    [
        ({"max_tokens": 16}, {"max_tokens": "32"}),
        ({"further": {"max_tokens": 16}}, {"max_tokens": "32"}),
        ({"max_tokens": 16}, {"further": "{max_tokens: 32}"}),
        ({"further": {"max_tokens": 16}}, {"further": "{max_tokens: 32}"}),
    ],
)
def test_the_command_line_goes_over_the_file_in_fields_too(
    training: Parameters, from_file: dict[str, Any], from_command: dict[str, str]
) -> None:
    assert resolve(training, from_file, from_command)["further"]["max_tokens"] == 32


def test_the_command_line_leaves_the_files_other_fields(training: Parameters) -> None:
    """As a resumed run, whose file holds all of `further`, needs it."""
    from_file = {"further": {"max_tokens": 16}}
    expected = {"cells_after": 2, "critic_hidden": [256], "max_tokens": 16, "warm_up": 0.0}
    for from_command in ({"warm_up": "0"}, {"further": "{warm_up: 0.0}"}):
        assert resolve(training, from_file, from_command)["further"] == expected


def test_fields_in_a_dictionary_are_checked(training: Parameters) -> None:
    for given, words in (
        ({"max_token": 32}, "max_token: Extra inputs"),
        ({"max_tokens": 7}, "max_tokens: .*greater than or equal to 8"),
        ({"steps": 3}, "steps: in the parameters cell, and in further too"),
        (3, "Parameter further must be dict"),
    ):
        with pytest.raises(ConfigError, match=words):
            resolve(training, {"further": given}, {})


def test_a_notebook_that_sets_a_field_twice_is_refused() -> None:
    known = parameters_in(f'steps = 2  # how many\nfurther: dict = {{"steps": 3}}  {OF_TRAIN}')
    with pytest.raises(ConfigError, match="steps: in the parameters cell, and in further too"):
        resolve(known, {}, {})


def test_a_record_names_every_field_beside_the_other_parameters(
    known: Parameters, training: Parameters
) -> None:
    values = resolve(training, {}, {"max_tokens": "32", "steps": "9"})
    config = TrainConfig.checked(steps=9, max_tokens=32, cells_after=2, critic_hidden=(256,))
    assert recorded(training, values) == {**config.as_record(), "data_dir": ""}
    assert recorded(training, values)["critic_hidden"] == [256]
    values = resolve(known, {}, {"steps": "1"})
    assert recorded(known, values) == values


def test_a_record_is_the_same_wherever_a_field_was_set(training: Parameters) -> None:
    given = ({"max_tokens": 32}, {"further": {"max_tokens": 32}})
    one, other = (recorded(training, resolve(training, each, {})) for each in given)
    assert one == other
    assert recorded(training, resolve(training, {"max_tokens": 64}, {})) == recorded(
        training, resolve(training, {}, {})
    )


def test_the_table_lists_the_further_fields(training: Parameters) -> None:
    lines = parameters.table(training).splitlines()
    at = lines.index("Further fields of localmi.train.config.TrainConfig:")
    assert [line.split()[0] for line in lines[1 : at - 1]] == [
        "objective",
        "bound",
        "steps",
        "data_dir",
    ]
    assert {line.split()[0] for line in lines[at + 1 :]} == training.further.keys()
    further_comment = TrainConfig.comments()["cells_after"]
    (row,) = (line for line in lines if line.startswith("cells_after "))
    assert row.split() == ["cells_after", "int", "2", *further_comment.split()]
    assert not any(line.startswith("further ") for line in lines)


RANGES = """samples = 2000  # pairs
pool = 0  # 0 is all
rate = 0.01  # of the fits
sizes: list[int] = [1, 2]  # of x
seeds: list[int] = [0]  # of the map
split = "test"  # the patients it is read on: test or validate
mode = "tuned"  # tuned, frozen or probe; the last two need init
encoder = "minilm"  # or the folder or hub name
init = ""  # checkpoint of a run, "" is new
compare = "random"  # "random" is a probe of random weights, "" nothing, else a folder
cache_dir = ""  # of decoded images"""


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("samples", "0"),
        ("samples", "-5"),
        ("pool", "-1"),
        ("rate", "0"),
        ("rate", "nan"),
        ("rate", "inf"),
        ("sizes", "[]"),
        ("sizes", "[1, 0]"),
        ("seeds", "[-1]"),
        ("split", "tset"),
        ("mode", "frosen"),
    ],
)
def test_what_default_and_comment_rule_out_is_refused(name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"Parameter {name} "):
        resolve(parameters_in(RANGES), {}, {name: word})


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("samples", "1", 1),
        ("pool", "0", 0),
        ("seeds", "[0, 3]", [0, 3]),
        ("split", "validate", "validate"),
        ("mode", "probe", "probe"),
        ("encoder", "my/bert", "my/bert"),
    ],
)
def test_what_they_allow_is_taken(name: str, word: str, value: Any) -> None:
    assert resolve(parameters_in(RANGES), {}, {name: word})[name] == value


def test_a_cache_may_be_new_and_a_checkpoint_may_not(tmp_path: Path) -> None:
    known, new = parameters_in(RANGES), tmp_path / "new" / "folder"
    assert resolve(known, {}, {"cache_dir": str(new)})["cache_dir"] == str(new)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="which is a file"):
        resolve(known, {}, {"cache_dir": str(tmp_path / "file")})
    for name, advice in (
        ("init", 'a checkpoint, or ""'),
        ("compare", 'a run, or "random", or ""'),
    ):
        with pytest.raises(DataError, match=f"{name} names .*does not exist.*{advice}"):
            resolve(known, {}, {name: str(new)})
    assert resolve(known, {}, {"compare": str(tmp_path)})["compare"] == str(tmp_path)
    with pytest.raises(DataError, match="names random, which does not exist"):
        resolve(known, {}, {"init": "random"})  # which only the comment of a parameter allows
    assert resolve(known, {}, {"compare": "random"})["compare"] == "random"


# --- What cannot be built ---------------------------------------------------------------------


def of_course(name: str) -> Parameters:
    notebook = REPOSITORY / "notebooks" / name
    return parameters_of(read_notebook(notebook), name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"image_size": "100"}, "grid=4: .*divisor of 25"),
        ({"image_size": "100", "grid": "3"}, "divisor of 25"),
        ({"grid": "5"}, "grid=5: .*divisor of 32"),
        ({"image_encoder": "resnet512"}, "image_encoder='resnet512' is not known.*resnet50"),
        (
            {"image_encoder": "vit_b_16"},
            "vit_b_16.*use region_context='image' and cells_after=0",
        ),
        ({"image_encoder": "resnet18"}, "resnet18.*use cells_after=0"),
        ({"text_encoder": "./no_bert"}, "text_encoder='./no_bert': no folder with a config.json"),
    ],
)
def test_what_cannot_be_built_is_refused_before_data_are_read(
    words: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(of_course("07_train_local_mi.ipynb"), {}, words)


@pytest.mark.parametrize(
    "words",
    [
        *({"image_size": size} for size in ("64", "224", "256", "320", "384", "512")),
        {"image_size": "224", "grid": "7", "region_context": "image", "local_stage": "5"},
        {"image_size": "512", "image_encoder": "resnet50", "cells_after": "0"},
        {
            "image_size": "224",
            "image_encoder": "vit_b_16",
            "cells_after": "0",
            "region_context": "image",
            "grid": "7",
        },
    ],
)
def test_sizes_that_people_have_are_taken(words: dict[str, str]) -> None:
    assert resolve(of_course("07_train_local_mi.ipynb"), {}, words)["image_size"] == int(
        words["image_size"]
    )


def test_a_text_encoder_in_a_folder_is_loaded_at_the_door(tiny_bert: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert(), tmp_path / "bert")
    known = of_course("07_train_local_mi.ipynb")
    resolve(known, {}, {"text_encoder": str(folder)})
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="could not be loaded"):
        resolve(known, {}, {"text_encoder": str(folder)})
    hub = {"text_encoder": "a/hub-name"}  # is fetched when it is used
    assert resolve(known, {}, hub)["further"]["text_encoder"] == "a/hub-name"


def test_what_a_classifier_cannot_start_from_is_refused_at_the_door(tmp_path: Path) -> None:
    known, init = of_course("08_downstream_tasks.ipynb"), tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1)}, init)
    for words, said in (
        ({"init": "", "mode": "tuned", "image_encoder": "resnet512"}, "'resnet512' is not known"),
        (
            {"init": "", "mode": "tuned", "image_encoder": "vit_b_16", "image_size": "100"},
            "patches of 16 x 16 pixels. Use image_size=112 or 96",
        ),
        ({"init": str(init)}, "has no network with conv1.weight"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=said):
            resolve(known, {}, words)
    torch.save({"model": ResNet256().state_dict()}, init)
    state = torch.get_rng_state()
    assert resolve(known, {}, {"init": str(init), "image_size": "100"})["init"] == str(init)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match="region_context='region', but .* whole images"):
        resolve(known, {}, {"init": str(init), "region_context": "region"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("boxes", None, 'boxes names .*does not exist. Give a file of boxes, or ""'),
        ("boxes", "a,b\n1,2\n", "have no column image_id, text"),
        (
            "boxes",
            "dicom_id,label_text,x,y,w,h\na,Edema.,1,1,0,9\n",
            "no plain numbers in x, y, w, h",
        ),
        ("boxes", "\0\0", "boxes"),
        ("init", None, 'init names .*does not exist. Give a checkpoint, or ""'),
        ("init", "no checkpoint", "cannot be read"),
    ],
)
def test_what_the_full_run_cannot_read_is_refused_at_the_door(
    name: str, text: str | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, CheckpointError), match=said):
        resolve(of_course("14_full_mimic_cxr.ipynb"), {name: str(file)}, {})


@pytest.mark.parametrize("name", ["09_reading_the_model.ipynb", "14_full_mimic_cxr.ipynb"])
def test_a_model_of_another_kind_is_refused_at_the_door(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": {}}, tmp_path / "model.pt")
    for wrong in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint of notebook 07|No checkpoint"):
            resolve(of_course(name), {}, {"init": str(wrong)})
    kept = REPOSITORY / "data/example/results/main_run/networks.pt"
    assert resolve(of_course(name), {}, {"init": str(kept)})["init"] == str(kept)
    monkeypatch.chdir(kept.parent)  # a run that goes on may be started from another folder
    assert resolve(of_course(name), {}, {"init": kept.name})["init"] == str(kept)


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "boxes.csv").write_text("image_id,text,x,y,w,h\na,Edema.,1,1,5,9\n", "utf-8")
    found = resolve(of_course("14_full_mimic_cxr.ipynb"), {"boxes": "~/boxes.csv"}, {})["boxes"]
    assert Path(found) == tmp_path / "boxes.csv"
