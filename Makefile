# Two commands: `make demo` shows the package at work on a real pair, `make test` runs every test.
# Both create what they need in .venv and .cache, and nothing outside this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
BASE := $(CACHE)/models/gemma-3-270m-q4_k_m.gguf
NUDGE := $(CACHE)/models/SmolLM2-135M-Instruct.Q4_1.gguf
LARGE := $(CACHE)/models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf
MIDDLE := $(CACHE)/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
BUNDLES := fp32 int8 int4
PROMPT ?= What are three good reasons to learn a second language?

.PHONY: demo demo-large test test-fast coverage test-large test-processors test-arm64 check docs bundles bundles-large bench clean
# A bundle that is there stays there, whatever else failed.
.SECONDARY:

demo: $(CACHE)/bundles/int8/nudge.json
	$(BIN)/python demo/compare.py $(CACHE)/bundles/int8 "$(PROMPT)"

# Two models of the ratio of sizes that the paper's pairs have: 1.2 GB to fetch, ten minutes to export on two cores.
demo-large: $(CACHE)/bundles/large-int8/nudge.json
	$(BIN)/python demo/compare.py $(CACHE)/bundles/large-int8 "$(PROMPT)"

test: bundles $(VENV)/installed
	@# Two at a time, but for models that keep all cores busy by themselves.
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not real and not large"
	$(BIN)/python -m pytest -m real

test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -m "not real and not slow and not large"

# What the fast tests run, line by line and branch by branch; they take half as long again.
coverage: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov -m "not real and not slow and not large"

# The tests on the large pair and on the pair with one vocabulary; `make test-large PAIRS=middle` on one between.
PAIRS ?= large shared
test-large: $(PAIRS:%=$(CACHE)/bundles/%-int8/nudge.json)
	NUDGE_LARGE_PAIRS="$(PAIRS)" $(BIN)/python -m pytest -m large

# What differs by processor, as older ones than this machine's; `make test-processors ARGS=avx2` for one of them.
test-processors: $(VENV)/installed
	$(BIN)/python tests/processors/run.py $(ARGS)

# The same under qemu-user on arm64, ten minutes on two cores; what it fetches stays in $(CACHE)/arm64.
test-arm64: $(VENV)/installed
	$(BIN)/python tests/processors/arm64.py $(ARGS)

# Type and import checkers do not follow the mapping of export/ and runtime/ into the package in a source tree,
# so they look at an installed copy.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(CACHE)/check build
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target $(CACHE)/check .
	@cp -r benchmarks examples $(CACHE)/check
	cd $(CACHE)/check && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p nudge_onnx -p benchmarks
	cd $(CACHE)/check && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml examples/*.py
	cd $(CACHE)/check && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports $(CURDIR)/pyproject.toml
	@$(MAKE) --no-print-directory docs

# The site of docs/ in $(CACHE)/site; a broken link, or a docstring that cannot be read, fails. The reference is made from
# the copy that `check` installs.
docs: $(VENV)/installed
	@test -d $(CACHE)/check || $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target $(CACHE)/check .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bundles: $(BUNDLES:%=$(CACHE)/bundles/%/nudge.json)
	@$(BIN)/python tests/link_checkpoints.py $(CACHE)/work $(CACHE)/checkpoints base=$(BASE) nudge=$(NUDGE)

# What the benchmarks of the large pair need; its base model unpacked takes 7 GB.
bundles-large: $(patsubst %,$(CACHE)/bundles/large-%/nudge.json,int8 int4)
	@$(BIN)/python tests/link_checkpoints.py $(CACHE)/work $(CACHE)/checkpoints large=$(LARGE)

# Every benchmark, an hour or so on two cores; `make bench ARGS=--quick` shows that all of them run.
bench: bundles bundles-large $(CACHE)/bundles/int4-all/nudge.json $(VENV)/bench
	$(BIN)/python -m benchmarks all $(ARGS)

# In a rule whose stem is the precision.
EXPORT = $(BIN)/nudge-export --precision $* --output $(@D) --work $(CACHE)/work --overwrite

# What precisions share (unpacked checkpoints, Optimum's graphs) is kept in $(CACHE)/work.
$(CACHE)/bundles/%/nudge.json: | $(VENV)/installed $(CACHE)/pair.json
	$(EXPORT) --base $(BASE) --nudge $(NUDGE)

# At a gamma of 0.3 the nudging model writes an eighth of the tokens, as in the paper.
$(CACHE)/bundles/large-%/nudge.json: | $(VENV)/installed $(CACHE)/pair-large.json
	$(EXPORT) --base $(LARGE) --nudge $(NUDGE) --gamma 0.3

$(CACHE)/bundles/middle-%/nudge.json: | $(VENV)/installed $(CACHE)/pair-middle.json
	$(EXPORT) --base $(MIDDLE) --nudge $(NUDGE) --gamma 0.3

$(CACHE)/bundles/shared-%/nudge.json: | $(VENV)/installed $(CACHE)/pair-shared.json
	$(EXPORT) --base $(LARGE) --nudge $(MIDDLE) --gamma 0.3 --policy token

$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Alone and first: a torch that is already there keeps other packages from asking for a larger build of it.
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[cpu,export,ray,plot,dev,docs]'
	@touch $@

$(VENV)/bench: $(VENV)/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(CACHE)/pair.json: demo/fetch.py
	@mkdir -p $(CACHE)
	$(PYTHON) demo/fetch.py $(CACHE)/models > $@.part
	@mv $@.part $@

# By name, or make would not choose the rules above that need them.
$(CACHE)/pair-large.json $(CACHE)/pair-middle.json $(CACHE)/pair-shared.json: $(CACHE)/pair-%.json: demo/fetch.py
	@mkdir -p $(CACHE)
	$(PYTHON) demo/fetch.py $(CACHE)/models --pair $* > $@.part
	@mv $@.part $@

clean:
	rm -rf $(VENV) $(CACHE) build *.egg-info
