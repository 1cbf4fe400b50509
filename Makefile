# The front door. `make chat` and `make test` are all a new user needs; `make help` lists the rest.

VENV ?= .venv
PY := $(VENV)/bin/python
EXAMPLE ?= examples/tinybuddy
BLOB ?= build/$(notdir $(EXAMPLE)).q4_0.tlm
SOURCES := pyproject.toml $(shell find export host runtime_c firmware -type f \
	\( -name '*.py' -o -name '*.c' -o -name '*.h' -o -name '*.S' -o -name 'CMakeLists.txt' -o -name '*.t*ml' -o -name '*.txt' \) \
	-not -path '*/__pycache__/*' 2>/dev/null)
# A prompt goes through the environment, so that quotes and dollars in it stay what they are.
export PROMPT

.PHONY: help chat install test lint emulators bench clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

chat: $(BLOB)    ## chat with the bundled model: make chat, make chat PROMPT="Once upon a time"
	@if [ -n "$$PROMPT" ]; then $(VENV)/bin/tinychat --sim $(BLOB) --prompt "$$PROMPT"; \
	else $(VENV)/bin/tinychat --sim $(BLOB); fi

install: $(VENV)/.installed  ## the two programs, tinyexport and tinychat, into .venv

$(VENV)/.installed: $(SOURCES)
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; python3 is $$(python3 --version 2>&1)" >&2; exit 1; }
	@command -v $(firstword $(CC)) > /dev/null || { echo "a C compiler is needed (Debian, Ubuntu: apt install gcc)" >&2; exit 1; }
	@test -x $(PY) || python3 -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3 has no venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "installing (a C compiler is needed; the first time takes a minute)..." >&2
	@$(PY) -m pip install -q --disable-pip-version-check .
	@touch $@

$(BLOB): $(VENV)/.installed $(wildcard $(EXAMPLE)/*.safetensors $(EXAMPLE)/*.json $(EXAMPLE)/*.pt)
	@mkdir -p $(dir $@)
	@$(VENV)/bin/tinyexport quantize $(EXAMPLE) --q4_0 -o $@ >&2

$(VENV)/.test: $(VENV)/.installed
	@$(PY) -m pip install -q --disable-pip-version-check '.[test]'
	@touch $@

test: $(VENV)/.test  ## every test; those that need ../shared or an emulator say why they are skipped
	$(PY) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.test  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

emulators: $(VENV)/.test  ## build the firmware for the emulated boards and chat with each
	$(PY) -m pytest tests/emu -k boards -rs

clean:           ## remove what was built
	rm -rf build dist $(VENV)
