//! Every key: what it means, and what is to be known of it. Types and defaults are those of
//! [`Config`](super::Config) itself.
//!
//! A key is added to its struct, with its default, and here, by a line; the page follows by
//! `cargo run -- config page > docs/configuration.md`. The tests say what is missing.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// With its tables: `camera.fps`.
    pub name: &'static str,
    /// What it means, for whoever writes the file: one or more sentences.
    pub says: &'static str,
    /// A value to show, as TOML, where nothing is the default.
    pub sample: &'static str,
    /// Whether it can be applied while the daemon runs.
    pub live: bool,
    /// What of its value is shown to nobody.
    pub hide: Hide,
    /// The key that it is an older name of.
    pub instead: Option<&'static str>,
}

/// What of a value is shown to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// It may be seen.
    Nothing,
    /// It is an address: user, password and query.
    User,
    /// All of it.
    All,
}

impl Key {
    /// The table that it stands in, and its name there.
    pub fn parted(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    const fn live(self) -> Self {
        Key { live: true, ..self }
    }

    const fn sample(self, sample: &'static str) -> Self {
        Key { sample, ..self }
    }

    const fn hides(self, hide: Hide) -> Self {
        Key { hide, ..self }
    }

    const fn older(self, instead: &'static str) -> Self {
        Key { instead: Some(instead), ..self }
    }
}

/// A key that needs the daemon's restart.
const fn key(name: &'static str, says: &'static str) -> Key {
    Key { name, says, sample: "", live: false, hide: Hide::Nothing, instead: None }
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether there is such a table.
pub fn is_table(name: &str) -> bool {
    TABLES.iter().any(|(table, _)| *table == name)
}

/// The tables in the order of the file, and what they are about. The first has no name: its keys stand above
/// all tables.
pub const TABLES: &[(&str, &str)] = &[
    ("", "The device."),
    ("model", "The model to start from."),
    ("camera", "Where frames come from."),
    ("detect", "What counts as found."),
    ("select", "Which frames are worth keeping."),
    ("store", "How much room the kept frames may take."),
    ("train", "How runs go. A `train` command may say otherwise for its run."),
    ("mqtt", "The broker and the topics."),
    ("homeassistant", "Whether Home Assistant finds the device by itself."),
    ("api", "What the machine itself can ask over HTTP."),
    ("runtime", "What the graphs run on."),
];

/// All keys, table by table.
pub const KEYS: &[Key] = &[
    key(
        "device",
        "The device's name: part of every topic, and the MQTT client id. 1 to 64 of letters, digits, `-`, `_`, `.`.",
    ),
    key("state_dir", "The folder that holds the store, frames, models and features."),
    key(
        "model.base",
        "The ONNX export that becomes slot 0 at the first start. Later starts go on with the current slot.",
    ),
    key("model.imgsz", "Side of the square input, pixels, where the export leaves it free.").sample("640"),
    key(
        "camera.source",
        "A device (`/dev/video0`, or a name that stays: `/dev/v4l/by-id/…`), a snapshot or MJPEG stream \
         (`http://user:password@host/…`), RTSP with H.264 (`rtsp://…`, where graftd was built with it), a folder \
         of JPEG and PNG files, or `test`, a drawn picture that moves. Without it nothing is captured.",
    )
    .live()
    .sample("\"/dev/video0\"")
    .hides(Hide::User),
    key("camera.folder", "A folder of JPEG and PNG files.")
        .live()
        .sample("\"/srv/frames\"")
        .older("camera.source"),
    key("camera.fps", "Frames per second that are looked at. Above 0, at most 1000.").live(),
    key("camera.width", "Wished width, pixels, 32 to 8192. A device gives what is nearest, and says so.").live(),
    key("camera.height", "Wished height, pixels, 32 to 8192.").live(),
    key("camera.repeat", "Whether a folder starts again at its end.").live(),
    key(
        "camera.watch",
        "Whether a folder is waited at for new files; those that are there at the start are left alone.",
    )
    .live(),
    key("detect.confidence", "The least confidence of a detection, 0 to 1.").live(),
    key(
        "detect.iou",
        "Overlap (IoU) above which the less sure of two boxes of a class is dropped, 0 to 1.",
    )
    .live(),
    key(
        "detect.max_latency_ms",
        "Milliseconds that a frame may take, as the median of a new model's first frames; a model that is slower \
         is left for the one before it.",
    )
    .live()
    .sample("200.0"),
    key("select.unsure_from", "A detection with a confidence from here up to `unsure_to` is one that the model is unsure of, most of all in the middle. 0 to 1.").live(),
    key("select.unsure_to", "See `unsure_from`. 0 to 1.").live(),
    key(
        "select.random_share",
        "Share of all frames that are kept by chance, whatever is on them, 0 to 1. They have a quarter of the \
         hour's budget, or this share of it where that is more.",
    )
    .live(),
    key(
        "select.least_difference",
        "Difference of brightness (0 to 255), in the part of the picture that differs most, below which a frame \
         shows the view of a kept one again. Light that changes everywhere is no difference.",
    )
    .live(),
    key(
        "select.per_hour",
        "Frames that are kept within any hour, at most. Those that somebody asks for are kept beyond it.",
    )
    .live(),
    key(
        "select.class_share",
        "Share of the hour's budget that frames with one class may take before they must be worth more than \
         others, 0 to 1.",
    )
    .live(),
    key(
        "select.neighbour_seconds",
        "Frames with no more than so many seconds between them are neighbours, on which the same is to be seen. \
         0 (off) to 3600.",
    )
    .live(),
    key(
        "store.max_mb",
        "Kept frames take at most so much, MiB; then the oldest of the least notable without labels make room.",
    ),
    key("store.max_samples", "At most so many samples are kept; then as for `max_mb`."),
    key(
        "store.min_free_mb",
        "No frame is kept while less than this is free on the disk, MiB: it is not graftd's alone.",
    ),
    key(
        "store.ballast_mb",
        "So much is held back for the moment when others have filled the disk, MiB: labels and answers are \
         written then, and the rest goes on when there is room.",
    ),
    key(
        "store.drop_labelled",
        "Whether labelled samples may make room too when there are no others: first the oldest to learn from, \
         then the oldest of the hold-out.",
    ),
    key(
        "store.patience_s",
        "So long the database may take for one thing, seconds; then graftd ends, so that it is started again. A \
         slow card may take some. At least 10.",
    ),
    key("train.min_samples", "A run needs at least so many labelled samples to learn from.").live(),
    key(
        "train.holdout_share",
        "Share of newly labelled samples that are measured on and never learnt from, 0 to 1; a label may also \
         say it itself.",
    )
    .live(),
    key("train.allow_remote", "Whether a run may be started over MQTT.").live(),
    key(
        "train.when",
        "Local hours in which runs start by themselves. A run that is not done when they end waits for the next \
         ones. Without it only commands start runs.",
    )
    .live()
    .sample("\"02:00-05:00\""),
    key("train.new_labels", "So many samples must have been labelled since the last run began.").live(),
    key("train.every_hours", "Hours from the start of one run to the next, at least. 0 to 8760.").live(),
    key("train.on_mains", "Whether runs wait for mains power, where the machine tells.").live(),
    key(
        "train.max_celsius",
        "Runs wait while the warmest zone is above this, °C, where the machine tells. 20 to 150.",
    )
    .live(),
    key("train.max_load", "Runs start only while the load of the last minute is below this, per core.")
        .live()
        .sample("0.7"),
    key("train.idle", "Whether a run gets only time that no other program wants.").live(),
    key("train.cpus", "The cores that a run may use, by number, such as `[2, 3]`; none may use all.").live(),
    key(
        "train.scope",
        "Which layers of the head are trained: `last`, `cls` (the class branch), `head` (all of it), or `auto`, \
         by labels, memory and time.",
    )
    .live(),
    key("train.epochs", "Passes over the samples, at most.").live(),
    key("train.imgsz", "Side of the square input, pixels; without it the export's own, or `model.imgsz`.")
        .live()
        .sample("640"),
    key("train.batch", "Samples per step, 1 to 256.").live(),
    key("train.seed", "The same seed gives the same weights.").live(),
    key("train.lr", "Peak learning rate of AdamW, above 0, or `\"auto\"`, which tries some and chooses.").live(),
    key(
        "train.lr_before_last",
        "Learning rate of the layers before the last ones, as a factor of `lr`, 0 to 1.",
    )
    .live(),
    key(
        "train.last_alone",
        "Whether the last layers learn alone at first, so that their beginnings don't spoil what stands before \
         them.",
    )
    .live(),
    key("train.weight_decay", "Decoupled weight decay, on convolution kernels only. 0 or more.").live(),
    key(
        "train.views",
        "Views of each sample that the backbone sees once each, 1 to 64; 1 is the plain picture alone.",
    )
    .live(),
    key(
        "train.mosaic",
        "Share of the varied views that are mosaics of four samples, from 0 (none) to 1 (all but the plain \
         picture).",
    )
    .live(),
    key(
        "train.turns",
        "Which way up views may be turned: `none`, `mirror` (left and right change places: right for a camera that \
         looks ahead) or `all` (right for one that looks straight down).",
    )
    .live(),
    key(
        "train.distill",
        "Whether the base teaches what it knows of classes that the labels don't cover: `auto` or `off`.",
    )
    .live(),
    key("train.replay", "Share of each batch that older samples fill, from 0 to below 1.").live(),
    key("train.memory_mb", "Disk that older samples' features may take, MB.").live(),
    key(
        "train.patience",
        "Stop after so many epochs without a better hold-out; 0 never stops early.",
    )
    .live(),
    key(
        "train.gate_confidence",
        "How sure it must be that a new model is better and not only lucky on the hold-out's pictures, from 0 \
         (its figure need only be higher) to below 1.",
    )
    .live(),
    key("train.max_minutes", "Stop in good order after so many minutes.").live().sample("60.0"),
    key(
        "train.max_memory_mb",
        "Memory that the process may hold, MB; a run that would need more takes less at once, or is refused.",
    )
    .live()
    .sample("512"),
    key(
        "train.cache_mb",
        "Disk that features may take, MB. A run that wants more takes fewer views, then fewer samples.",
    )
    .live(),
    key("train.threads", "Threads of a run; 0 takes one per core that it may use.").live(),
    key(
        "mqtt.broker",
        "Where the broker listens, and as whom to log in: `mqtt://[user@]host[:port]`, or `mqtts://…` over TLS.",
    ),
    key("mqtt.version", "The version of MQTT that is spoken: 3 (which is 3.1.1) or 5."),
    key(
        "mqtt.username_file",
        "A file whose first line is the user to log in as, instead of one in `broker`. A file that is named \
         without a folder is looked for among systemd's credentials first.",
    )
    .sample("\"mqtt-user\""),
    key("mqtt.password_file", "A file whose first line is the password that goes with the user.")
        .sample("\"mqtt-password\""),
    key(
        "mqtt.ca_file",
        "Certificates (PEM) of the authorities that may vouch for the broker; without it those of the system.",
    )
    .sample("\"/etc/graftd/ca.pem\""),
    key("mqtt.client_cert", "The certificate (PEM, with its chain) that shows the broker who we are.")
        .sample("\"client.pem\""),
    key("mqtt.client_key", "The key (PEM) of `client_cert`.").sample("\"client.key\""),
    key("mqtt.root", "The topic that all others are below; without it `graftd/<device>`.")
        .sample("\"farm/7/graftd\""),
    key(
        "mqtt.max_packet",
        "Size above which a message is not sent but set aside, bytes (topic and payload), at least 1024.",
    ),
    key(
        "mqtt.session_days",
        "With MQTT 5: so long the broker keeps the session, and with it the commands, of a device that is away; days.",
    ),
    key(
        "mqtt.event_days",
        "With MQTT 5: so long the broker keeps an event for subscribers that are away; days.",
    ),
    key(
        "mqtt.commands",
        "The commands that may be sent; without it all. Others are not announced, and answered `failed`.",
    )
    .sample("[\"label\", \"state\"]"),
    key("mqtt.commands_per_second", "So many commands are taken in a second; those above wait in the connection."),
    key(
        "homeassistant.enabled",
        "Whether the device is announced to Home Assistant, on `<prefix>/device/graftd-<device>/config`. What was \
         announced is taken back when this is off again.",
    ),
    key("homeassistant.prefix", "The topic that Home Assistant looks below for devices."),
    key(
        "homeassistant.image",
        "Whether the last kept frame goes to the broker as a small picture, on `<root>/image`, where `enabled` is on.",
    ),
    key(
        "api.socket",
        "The Unix socket. Without it `api.sock` in the folder that the service manager gives, or in `/run/graftd`, \
         or else in `state_dir`, which always has a link to it.",
    )
    .sample("\"/run/graftd/api.sock\""),
    key("api.listen", "A TCP address to listen on as well; needs `token_file`.").sample("\"127.0.0.1:8470\""),
    key(
        "api.token_file",
        "A file whose first line is the token, of at least 16 characters, that TCP clients must show as \
         `Authorization: Bearer …`.",
    )
    .sample("\"/etc/graftd/secrets/api-token\""),
    key("runtime.library", "The libonnxruntime to load; without it the usual places are looked at.")
        .sample("\"/usr/lib/libonnxruntime.so\""),
    key(
        "runtime.backbone",
        "What detects and extracts features: `ort`, `tract`, or `auto`, which takes ONNX Runtime where its \
         library is found.",
    ),
    key("runtime.training", "What trains: `auto`, `ort` or `tract`."),
    key("runtime.threads", "Threads of detection; 0 takes one per core. A run's are `train.threads`."),
];
