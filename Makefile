.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-frame bench-store bench-guest bench-host bench-writes memory-test test-rtsp torture fuzz selection exports forgetting peers peers-cost fmt doc lib venv aarch64 deb deb-test features deny release vm-test board-test

help: ## list what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

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

vm-test: ## let the real systemd start, watch, kill, reload and upgrade graftd in a virtual machine, and cut its power (ARGS="--only killed")
	@scripts/setup.sh vm
	@scripts/fetch-onnxruntime.sh
	cargo build
	@tests/vm/run.py $(ARGS)

board-test: ## try the arm64 package on an emulated board: camera, labels, runs on both runtimes, a power cut (goes on where it was ended)
	@scripts/setup.sh board
	@scripts/fetch-onnxruntime.sh
	@scripts/fetch-onnxruntime.sh target/vm/lib-arm64 aarch64
	@scripts/venv.sh
	@scripts/deb.sh arm64
	@scripts/binary.sh arm64 --quiet --test grad_runtimes
	@scripts/binary.sh
	@tests/vm/board.py $(ARGS)

bench: ## measure CPU time per picture of every stage, per scope and runtime (ARGS="yolo11n.onnx 320")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench costs -- $(ARGS)

bench-frame: ## measure from a camera's frame to boxes against ONNX Runtime alone (ARGS="yolo11n.onnx 320")
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench frame -- $(ARGS)

bench-store: ## measure the store as it grows to 100,000 samples (ARGS="/var/tmp 1000 5000")
	cargo bench --bench store -- $(ARGS)

bench-guest: ## measure what a run costs detection beside it (ARGS="yolo11n.onnx 320")
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench guest -- $(ARGS)

bench-writes: ## count the bytes that go to a card, per kept frame and idle hour (ARGS="1000 3600")
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench board -- writes $(ARGS)

memory-test: ## run the daemon in 150 MB and with runs in 300 MB, an hour each, as root (ARGS="10 yolo11n.onnx 320 150 500")
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench board -- memory $(ARGS)

test-rtsp: ## test RTSP cameras, which are no part of the default build and need a C++ compiler
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	cargo clippy --quiet --all-targets --features rtsp -- -D warnings
	cargo test --features rtsp --lib capture::
	cargo test --features rtsp --test cameras

bench-host: ## measure the host's hot path: times, and instruction counts under callgrind
	cargo bench --bench hot_path
	@scripts/instructions.sh

forgetting: ## teach a new class with the old one unlabelled, and tell what is forgotten (ARGS="--seeds 1")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench forgetting -- $(ARGS)

selection: ## count the labels that chosen frames save over frames taken at random (ARGS="--seeds 1")
	@scripts/setup.sh demo
	@scripts/fetch-onnxruntime.sh
	cargo bench --bench selection -- $(ARGS)

torture: ## cut the power 4,700 times, fill the disk and kill at every write, flip 2,100 bits, kill runs, daemon and broker, flood it
	@scripts/setup.sh test
	GRAFTD_CUTS=1800 cargo test --test power_cut -- --nocapture
	GRAFTD_SECOND_CUTS=600 cargo test --test power_cut_twice -- --nocapture
	GRAFTD_TRAIN_CUTS=60 cargo test --test power_cut_train -- --nocapture
	GRAFTD_DAEMON_CUTS=500 GRAFTD_DAEMON_KILLS=500 cargo test --test power_cut_daemon -- --nocapture
	GRAFTD_FAULTS=500 cargo test --test faults -- --nocapture
	GRAFTD_FLIPS=2100 cargo test --test bit_flips -- --nocapture
	GRAFTD_STORE_KILLS=500 cargo test --test store_power -- --nocapture
	GRAFTD_KILLS=500 cargo test --test resume -- --nocapture killed
	GRAFTD_LINK_REPORTS=5000 GRAFTD_LINK_BROKER_KILLS=30 GRAFTD_LINK_KILLS=10 cargo test --test mqtt_nothing_lost -- --nocapture
	GRAFTD_PAYLOADS=100000 cargo test --test mqtt_flood -- --nocapture

fuzz: ## feed each parser with garbage, ten minutes each (ARGS="60" for a minute; needs cargo-fuzz)
	@scripts/fuzz.sh $(ARGS)

exports: ## make exports of every family and form and try graftd on each (ARGS="--release 8.4.190 'yolo26*'")
	@scripts/exports.sh $(ARGS)

peers: ## train beside Ultralytics with a frozen backbone, three seeds each, and compare (ARGS="--seeds 0")
	@benches/peers/peers.sh runs $(ARGS)

peers-cost: ## CPU-seconds per picture and epoch beside Ultralytics (ARGS="--models yolo11n --sides 320")
	@benches/peers/peers.sh cost $(ARGS)

aarch64: ## build for aarch64 with Debian's cross toolchain, no container (target/debian/aarch64-unknown-linux-gnu)
	@scripts/binary.sh arm64

deb: ## pack for Debian into target/dist (ARCH=arm64 or amd64)
	@scripts/deb.sh $(ARCH)

deb-test: ## install, upgrade, remove and purge the package of this machine in a root of its own (as root)
	@scripts/deb-test.sh

features: ## check that every set of features builds (ARGS="--sizes" builds releases and measures them)
	@scripts/features.sh $(ARGS)

deny: ## check the dependencies: licences, sources, and what is known to be unsafe (RustSec's database, fetched or kept)
	@scripts/deny.sh

release: ## packages, tarballs, SBOM and sums from a clean tag into target/dist (DRY=1 to try)
	@scripts/release.sh

lib: ## fetch libonnxruntime into lib/
	@scripts/fetch-onnxruntime.sh

venv: ## make .venv with what the tests compare with
	@scripts/venv.sh

fmt: ## format the code
	cargo fmt

doc: ## build the documentation of the library
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
