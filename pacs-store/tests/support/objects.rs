//! Object stores of the tests' own: SeaweedFS, which speaks the protocol of S3, and Azurite, which speaks that of Azure.
#![allow(dead_code, reason = "each test uses its part")]

#[path = "script.rs"]
mod script;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pacs_store::embedded::ObjectLocation;
use script::{Script, is_installed};

/// Runs the store, makes a bucket, then does what it is told. It ends with whoever started it, however that ends; its
/// directory goes with it.
const SEAWEEDFS: &str = r#"
set -e
weed=$1 s3=$2; shift 2
home=$(mktemp -d)
trap '[ $? = 0 ] || tail -n 20 "$home/log" >&2; kill -9 $pid 2>/dev/null || true; rm -rf "$home"' EXIT
mkdir "$home/data"
cat >"$home/s3.json" <<END
{"identities": [{"name": "pacs", "credentials": [{"accessKey": "key", "secretKey": "secret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
END
run() {
    "$weed" server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$home/data" -master.volumeSizeLimitMB=256 -volume.max=40 \
        -volume.port=$1 -volume.port.grpc=$2 -master.port=$3 -master.port.grpc=$4 -filer -filer.port=$5 -filer.port.grpc=$6 \
        -s3 -s3.port=$s3 -s3.port.grpc=$7 -s3.config="$home/s3.json" \
        -s3.port.iceberg=0 -s3.port.lance=0 -master.electionTimeout=1s >"$home/log" 2>&1 &
    pid=$!
    until curl -sf -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 -u key:secret "http://127.0.0.1:$s3/"; do kill -0 $pid; sleep 0.1; done
}
run "$@"
until curl -sf -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 -u key:secret -X PUT "http://127.0.0.1:$s3/pacs"; do kill -0 $pid; sleep 0.1; done
# A volume is grown with the first object.
until curl -sf -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 -u key:secret -T "$home/s3.json" "http://127.0.0.1:$s3/pacs/ready"; do kill -0 $pid; sleep 0.1; done
echo ready
while read -r what; do
    case $what in
        start) run "$@"; echo ready ;;
        stop) kill -9 $pid; wait $pid 2>/dev/null || true; echo stopped ;;
    esac
done
"#;

const AZURITE: &str = r#"
set -e
home=$(mktemp -d)
trap '[ $? = 0 ] || tail -n 20 "$home/log" >&2; kill -9 $pid 2>/dev/null || true; rm -rf "$home"' EXIT
AZURITE_ACCOUNTS="pacs:$3" "$1" --blobHost 127.0.0.1 --blobPort "$2" --location "$home" --skipApiVersionCheck --silent \
    --disableTelemetry >"$home/log" 2>&1 &
pid=$!
key=$(printf %s "$3" | base64 -d | od -An -v -tx1 | tr -d ' \n')
make() {
    now=$(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S GMT')
    signature=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-08-06\n/pacs/pacs/pacs\nrestype:container' "$now" |
        openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
    curl -sf -o /dev/null -X PUT -H "x-ms-date: $now" -H 'x-ms-version: 2021-08-06' -H 'Content-Length: 0' \
        -H "Authorization: SharedKey pacs:$signature" "http://127.0.0.1:$2/pacs/pacs?restype=container"
}
until make "$@"; do kill -0 $pid; sleep 0.1; done
echo ready
while read -r what; do :; done
"#;

/// Anything of some length.
const AZURE_KEY: &str = "cGFjcyB0ZXN0cyB0aGUgYmxvYiBzdG9yZSB3aXRoIHRoaXMga2V5IGFuZCBubyBvdGhlcg==";

pub(crate) struct Server {
    location: ObjectLocation,
    script: Script,
    prefixes: AtomicU64,
}

fn free_ports<const N: usize>() -> [String; N] {
    // Free until somebody else takes them: the server takes them at once.
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("it has one").port().to_string())
}

impl Server {
    /// The SeaweedFS that the tests of a program share; none, with a word about it, where it isn't installed.
    pub(crate) fn seaweedfs() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Server>> = LazyLock::new(Server::own_seaweedfs);
        SHARED.as_ref()
    }

    /// One that may be stopped.
    pub(crate) fn own_seaweedfs() -> Option<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .ancestors()
            .find(|path| path.join("Cargo.lock").is_file());
        let root = root.expect("the workspace is above");
        let venv = match std::env::var_os("PACS_PEERS_VENV") {
            Some(venv) => root.join(venv),
            None => root.join("target/peers-venv"),
        };
        let weed = venv.join("bin/weed");
        if !is_installed("SeaweedFS", weed.is_file()) {
            return None;
        }
        let ports: [String; 8] = free_ports();
        let mut location = ObjectLocation::at("s3://pacs");
        let options = [
            ("endpoint", format!("http://127.0.0.1:{}", ports[0])),
            ("region", "us-east-1".to_owned()),
            ("allow_http", "true".to_owned()),
            ("access_key_id", "key".to_owned()),
            ("secret_access_key", "secret".to_owned()),
        ];
        location.options = options.map(|(name, value)| (name.to_owned(), value)).into();
        Some(Self::start_with(SEAWEEDFS, &weed, &ports, location))
    }

    pub(crate) fn azurite() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Server>> = LazyLock::new(|| {
            let program = PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/azurite/node_modules/.bin/azurite-blob"
            ));
            if !is_installed("Azurite", program.is_file()) {
                return None;
            }
            let [port] = free_ports();
            let mut location = ObjectLocation::at("az://pacs");
            let options = [
                ("endpoint", format!("http://127.0.0.1:{port}/pacs")),
                ("allow_http", "true".to_owned()),
                ("account_name", "pacs".to_owned()),
                ("account_key", AZURE_KEY.to_owned()),
            ];
            location.options = options.map(|(name, value)| (name.to_owned(), value)).into();
            let arguments = [port, AZURE_KEY.to_owned()];
            Some(Server::start_with(AZURITE, &program, &arguments, location))
        });
        SHARED.as_ref()
    }

    fn start_with(script: &str, program: &Path, arguments: &[String], location: ObjectLocation) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(program).args(arguments);
        let server = Self {
            location,
            script: Script::start(&mut command),
            prefixes: AtomicU64::new(0),
        };
        assert_eq!(server.script.says(), "ready");
        server
    }

    /// An empty place in it.
    pub(crate) fn place(&self) -> ObjectLocation {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        let mut location = self.location.clone();
        location.url = format!("{}/some/place-{number}", location.url);
        location
    }

    /// Stops it as a death does.
    pub(crate) fn stop(&self) {
        self.script.ask("stop", "stopped");
    }

    pub(crate) fn start(&self) {
        self.script.ask("start", "ready");
    }
}
