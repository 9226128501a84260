# Every target is one line over a command; `make help` lists them.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
MMLNB := $(BIN)/mmlnb

# What the targets work on; override on the command line, e.g. `make infer SLIDES=folder OUT=folder`.
CONFIG ?= tiny
OUT ?=
ARGS ?=
BUNDLE ?=
DEMO ?= runs/demo

export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo finetune caption train evaluate infer bundle report doctor tiny-vlm embedded-bundle format lint test test-slow test-spawn bench bench-tiles bench-tissue bench-finetune bench-crossfit bench-caption bench-dedupe bench-fusion bench-intervals bench-ablation bench-infer bench-robustness bench-osteosarcoma bench-report bench-capacity clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## create .venv and install the package

demo: $(VENV)/.installed ## run the whole path on synthetic tissue, report in runs/demo/report
	$(MMLNB) demo $(or $(OUT),runs/demo) $(ARGS)

finetune: $(VENV)/.installed ## DATA=patches.parquet OUT=folder [CONFIG=tiny]: teach the VLM to describe patches
	$(MMLNB) finetune --config $(CONFIG) --manifest $(DATA) --out $(OUT) $(ARGS)

caption: $(VENV)/.installed ## DATA=patches.parquet ADAPTER=folder OUT=folder [CONFIG=tiny]: describe every patch
	$(MMLNB) caption --config $(CONFIG) --manifest $(DATA) --adapter $(ADAPTER) --out $(OUT) $(ARGS)

train: $(VENV)/.installed ## DATA=patches.parquet CAPTIONS=folder OUT=folder [CONFIG=tiny]: train towers and PRMF
	$(MMLNB) train --config $(CONFIG) --manifest $(DATA) --captions $(CAPTIONS) --out $(OUT) $(ARGS)

evaluate: $(VENV)/.installed ## DATA=patches.parquet CAPTIONS=folder MODEL=folder OUT=folder: measure on held-out patches
	$(MMLNB) evaluate --model $(MODEL) --manifest $(DATA) --captions $(CAPTIONS) --out $(OUT) $(ARGS)

infer: $(VENV)/.installed ## SLIDES=folder OUT=folder [BUNDLE=folder or hf:owner/name]: call the subtype of every slide
	$(MMLNB) infer $(SLIDES) $(OUT) $(if $(BUNDLE),--bundle $(BUNDLE)) $(ARGS)

bundle: $(VENV)/.installed ## RUN=folder OUT=folder: gather what slide inference needs
	$(MMLNB) bundle make $(RUN) $(OUT) $(ARGS)

report: $(VENV)/.installed ## RUN=folder: write the HTML report of a run
	$(MMLNB) report $(RUN) $(ARGS)

doctor: $(VENV)/.installed ## check that this machine can run everything
	$(MMLNB) doctor

tiny-vlm: $(VENV)/.installed ## rebuild the embedded vision-language model from its seed
	$(BIN)/python -m vlm_finetune.tiny.build $(ARGS)

embedded-bundle: $(VENV)/.installed ## rebuild the embedded bundle: the demo from its seed
	$(BIN)/python -m mmlnb.build_embedded $(ARGS)

format: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

lint: $(VENV)/.installed-dev ## check format, style, types, secrets and known vulnerabilities
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/mypy benchmarks .ci && $(BIN)/python .ci/secret_scan.py && $(BIN)/python .ci/audit.py

test: $(VENV)/.installed-dev ## run the tests
	$(BIN)/pytest $(ARGS)

test-slow: $(VENV)/.installed-dev ## run the tests that take minutes
	$(BIN)/pytest -m slow $(ARGS)

test-spawn: $(VENV)/.installed-dev ## run the tests with processes started as on Windows and macOS
	$(BIN)/pytest --start-method spawn $(ARGS)

bench: bench-tissue bench-tiles bench-finetune bench-crossfit bench-caption bench-dedupe bench-fusion bench-intervals bench-ablation bench-report ## run all benchmarks that need no finished demo

bench-tiles: $(VENV)/.installed-dev ## speed and memory of reading tiles, beside bare OpenSlide
	$(BIN)/python benchmarks/tiles.py $(ARGS)

bench-tissue: $(VENV)/.installed-dev ## tissue, pen, folds, edges and focus against the truth of synthetic slides
	$(BIN)/python benchmarks/tissue.py $(ARGS)

bench-finetune: $(VENV)/.installed-dev ## tokens per second of fine-tuning, beside a plain loop
	$(BIN)/python benchmarks/finetune.py $(ARGS)

bench-crossfit: $(VENV)/.installed-dev ## what text on patients that the writer knows costs the fusion on others
	$(BIN)/python benchmarks/crossfit.py $(ARGS)

bench-caption: $(VENV)/.installed-dev ## patches described per second, beside a loop of one at a time
	$(BIN)/python benchmarks/caption.py $(ARGS)

bench-dedupe: $(VENV)/.installed-dev ## what describing nearly equal patches once saves, and costs
	$(BIN)/python benchmarks/dedupe.py $(ARGS)

bench-fusion: $(VENV)/.installed-dev ## how fast the fusion trains, stage by stage, beside a loop like the paper's release
	$(BIN)/python benchmarks/fusion_speed.py $(ARGS)

bench-ablation: $(VENV)/.installed-dev ## [OUT=runs/ablation]: all arms of the ablation on a hard synthetic cohort; resumable
	$(BIN)/python benchmarks/ablation.py $(or $(OUT),runs/ablation) $(ARGS)

bench-intervals: $(VENV)/.installed-dev ## how long the bootstrap over patients takes for 20,000 patches
	$(BIN)/python benchmarks/intervals.py $(ARGS)

bench-robustness: $(VENV)/.installed-dev ## [DEMO=runs/demo]: what wrong text does to every fusion block, over seeds
	$(BIN)/python benchmarks/robustness.py $(DEMO) $(ARGS)

bench-osteosarcoma: $(VENV)/.installed-dev ## [DEMO=runs/demo]: what off-domain text does to the fusion on real tissue
	$(BIN)/python benchmarks/osteosarcoma.py $(DEMO) $(ARGS)

bench-infer: $(VENV)/.installed-dev ## [DEMO=runs/demo]: what describing a tenth of the patches saves and costs, by how they are chosen
	$(BIN)/python benchmarks/infer.py $(DEMO) $(ARGS)

bench-report: $(VENV)/.installed-dev ## how long the report of 200 slides takes to write, and how large it is
	$(BIN)/python benchmarks/report.py $(ARGS)

bench-capacity: $(VENV)/.installed-dev ## [DEMO=runs/demo]: what 10,000 slides cost on one GPU, eight, and a cluster
	$(BIN)/python benchmarks/capacity.py --bundle $(DEMO)/bundle $(ARGS)

clean: ## remove .venv and caches, keep runs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q -c constraints.txt -e . && touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]' && touch $@
