# Each target first builds .venv from requirements.lock when it is missing, broken or out of date.
# Without make (Windows): the same commands, after `py lib/localmi/environment/build.py`
# and with .venv\Scripts\python in place of $(PY).

# The first Python from 3.11 to 3.13 that can make a .venv; else any, which says what is missing.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3 python; do \
  "$$each" -c "import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" \
  2>/dev/null && echo "$$each" && exit; done; command -v python3 || command -v python)
PY := .venv/bin/python

# One thread a process: results depend on the number of threads, and two workers share the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

NOTEBOOK ?= notebooks/07_train_local_mi.ipynb
PARAMETERS ?= notebooks/parameters/07_main.yaml
GRID ?= grid/small.yaml
PROFILE ?= grid/local

.PHONY: help run tables test check gpu-check lab light site slides student kept render example bench hooks clean environment

help:
	@echo "make run      train a local-MI model on the example study, into runs/ (ARGS='-p seed 1' to change)"
	@echo "make tables   the paper's tables: 180 runs on a study of their own, 3 hours; goes on after a kill"
	@echo "make test     everything: check, then the slow tests, then every notebook's stored outputs"
	@echo "make check    style, types, notebook lint, unit tests: four minutes"
	@echo "make gpu-check is training on this GPU right, and how fast: eight minutes with 16 cores"
	@echo "make lab      open the course in JupyterLab"
	@echo "make light    a small environment for chapters 1 to 4 alone, without a GPU's libraries: .venv-light"
	@echo "make site     the course as a book to read in a browser, from the stored notebooks: build/site"
	@echo "make slides   a deck of its figures and equations: build/slides"
	@echo "make student  the notebooks without solutions, to hand out: build/student"
	@echo "make render   execute the notebooks again and store their outputs (ARGS='notebooks/05*.ipynb' for some)"
	@echo "make kept     make the run anew that chapters 7 and 9 show: 12 minutes, then make render"
	@echo "make example  generate data/example again, byte for byte"
	@echo "make bench    speed and memory, each beside a named baseline: 12 minutes, into benchmarks/results"
	@echo "make hooks    refuse every commit that holds ids or reports of MIMIC, from now on"
	@echo "make clean    remove .venv and what the tools left; runs/ stays"

environment:
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.13, then: make PYTHON=<it> <target>"; exit 1; }
	@"$(PYTHON)" lib/localmi/environment/build.py

run: environment
	@echo "== The main job: $(NOTEBOOK) with $(PARAMETERS)"
	@$(PY) -m localmi run $(NOTEBOOK) -f $(PARAMETERS) $(ARGS)

tables: environment
	@echo "== The grid: $(GRID) with $(PROFILE)"
	@$(PY) -m snakemake --snakefile grid/Snakefile --configfile $(GRID) --workflow-profile $(PROFILE) $(ARGS)

check: environment
	@echo "== Style"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m codespell_lib
	@echo "== Types"
	@$(PY) -m mypy
	@echo "== Imports: one way, no circle"
	@$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-logo
	@echo "== Notebooks: lint"
	@$(PY) -m localmi lint notebooks
	@echo "== Unit tests"
	@$(ONE_THREAD) $(PY) -m pytest -q -m "not slow" -n 2 --dist loadscope

test: check
	@echo "== Slow tests"
	@$(ONE_THREAD) $(PY) -m pytest -q -m slow -n 2 --dist loadscope
	@echo "== Notebooks: every stored output, strictly"
	@$(ONE_THREAD) $(PY) -m pytest -q -n 2 --dist loadscope --nbval --nbval-current-env notebooks

gpu-check: environment
	@echo "== GPU check: a study drawn on the spot, local and global MI at the paper's sizes"
	@$(ONE_THREAD) $(PY) benchmarks/gpu_check.py $(ARGS)

lab: environment
	@echo "== JupyterLab on notebooks/ (Ctrl-C twice ends it)"
	@$(PY) -m jupyterlab notebooks $(ARGS)

# Without what later chapters need and without a GPU's libraries: uv knows where PyTorch's CPU builds
# are. Where only the ordinary index is to be had: make light TORCH=
TORCH ?= --torch-backend cpu

light:
	@"$(PYTHON)" -m venv .venv-light
	@.venv-light/bin/python -m pip install --quiet uv
	@.venv-light/bin/uv pip install --python .venv-light $(TORCH) -c requirements.lock -r .binder/light.txt
	@.venv-light/bin/uv pip install --python .venv-light --no-deps --editable .
	@echo "Chapters 1 to 4: .venv-light/bin/jupyter lab notebooks"

site: environment
	@$(PY) site/book.py $(ARGS)

slides: environment
	@$(PY) site/slides.py $(ARGS)

student: environment
	@$(PY) site/student.py $(ARGS)

kept: environment
	@echo "== The run that chapters 7 and 9 show, one thread: data/example/results/main_run"
	@$(ONE_THREAD) $(PY) -m localmi run notebooks/07_train_local_mi.ipynb -f notebooks/parameters/07_main.yaml --once --out runs/kept
	@rm -rf data/example/results/main_run
	@$(PY) -m localmi export runs/kept data/example/results/main_run
	@$(ONE_THREAD) $(PY) site/explorer.py

render: environment
	@echo "== Execute the notebooks and store their outputs, one thread"
	@$(ONE_THREAD) $(PY) -m localmi render $(ARGS)

example: environment
	@echo "== Generate data/example"
	@$(ONE_THREAD) $(PY) -m localmi example --out data/example

bench: environment
	@echo "== Speed and memory against named baselines: benchmarks/results"
	@$(PY) benchmarks/table.py $(ARGS)

hooks: environment
	@echo "== Switch on .githooks/ for this checkout: each commit is scanned for credentialed data"
	@git config core.hooksPath .githooks

clean:
	@echo "== Remove .venv and what the tools left"
	@rm -rf .venv .venv-light .mypy_cache .pytest_cache .ruff_cache .hypothesis build lib/localmi.egg-info
	@find lib tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
