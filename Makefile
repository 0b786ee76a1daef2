.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-guest bench-host torture exports forgetting selection peers peers-cost fmt doc lib venv

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: ## watch the whole loop on bundled pictures (ARGS="--broker mqtt://host --json …")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo build --release
	./target/release/graftd demo --out demo-out $(ARGS)

test: ## run every check and test, with all that they need
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@scripts/venv.sh
	@scripts/test.sh

bench: ## measure CPU time per picture of every stage, per scope and runtime (ARGS="yolo11n.onnx 320")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench costs -- $(ARGS)

bench-guest: ## measure what a run costs detection beside it (ARGS="yolo11n.onnx 320")
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench guest -- $(ARGS)

bench-host: ## measure the host's hot path: times, and instruction counts under callgrind
	cargo bench --bench hot_path
	@scripts/instructions.sh

forgetting: ## teach a new class with the old one unlabelled, and tell what is forgotten (ARGS="--seeds 1")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench forgetting -- $(ARGS)

selection: ## how many labels it takes, frames selected against frames at random (ARGS="--seeds 1")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench selection -- $(ARGS)

torture: ## kill a run five hundred times; it must end as if nothing had happened
	GRAFTD_KILLS=500 cargo test --test resume -- --nocapture killed

exports: ## make exports of every family and form and try graftd on each (ARGS="--release 8.4.190 'yolo26*'")
	@scripts/exports.sh $(ARGS)

peers: ## train beside Ultralytics with a frozen backbone, three seeds each, and compare (ARGS="--seeds 0")
	@benches/peers/peers.sh runs $(ARGS)

peers-cost: ## CPU-seconds per picture and epoch beside Ultralytics (ARGS="--models yolo11n --sides 320")
	@benches/peers/peers.sh cost $(ARGS)

lib: ## fetch libonnxruntime into lib/
	@scripts/fetch-onnxruntime.sh

venv: ## make .venv with what the tests compare with
	@scripts/venv.sh

fmt: ## format the code
	cargo fmt

doc: ## build the documentation of the library
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
