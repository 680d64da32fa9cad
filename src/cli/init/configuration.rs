//! The commented configurations that `claviger init` writes.

use super::names;
use crate::names::KekName;

/// What the operator said of it.
pub(super) struct Shape<'a> {
    pub(super) access_key: &'a str,
    pub(super) kek: &'a KekName,
    pub(super) region: &'a str,
    pub(super) access_log_origin: &'a str,
    pub(super) storage_url: &'a str,
    pub(super) domains: &'a [String],
    pub(super) custodian_host: &'a str,
    pub(super) trust_domain: &'a str,
    /// Whether it makes certificates for names below its domains.
    pub(super) issues: bool,
}

impl Shape<'_> {
    /// The proxy's, as TOML.
    pub(super) fn to_text(&self) -> String {
        let Self { access_key, kek, region, access_log_origin, storage_url, domains, custodian_host, .. } = self;
        let domains = list(domains);
        let issuer = match self.issues {
            true => format!(
                "# Makes certificates when somebody asks for a name below `domains`, which no other certificate is for.\n\
                 [proxy.issuer]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n\n",
                names::NAMES_CA,
                names::NAMES_CA_KEY
            ),
            false => String::new(),
        };
        format!(
            r#"# The configuration of `claviger proxy`. `claviger check --config FILE` says what is wrong with it.
# Paths are relative to this file. Secrets stand in files of mode 600, never here.

[proxy]
listen = "0.0.0.0:8443"
# The region of this proxy. It becomes part of every key's context, as {{role}}/{{region}}, and policies speak of it.
region = "{region}"
# Below these domains, buckets are also names of hosts: BUCKET.DOMAIN.
domains = {domains}
certificate_file = "{certificate}"
key_file = "{key}"
# How long it goes on serving after SIGTERM, while clients are sent elsewhere: behind a load balancer, longer than that needs to
# notice.
# leave_s = 0
# How long running requests may go on then.
drain_s = 30

{issuer}[storage]
url = "{storage_url}"
region = "us-east-1"
# urls = ["https://…", "https://…"]    # instead of `url`: further addresses of one cluster, the preferred first
# "path" works everywhere; AWS wants "virtual-hosted".
addressing = "path"
# The proxy's own identity on the storage server. Write its secret into the file.
access_key = "claviger"
secret_key_file = "{storage_secret}"
# ca_file = "certs/storage-ca.crt"     # without it, the web's public CAs are trusted
# Where the proxy keeps wrapped keys. It is made on first use, and is as precious as the records.
state_bucket = "claviger-state"
# Its name: among the custodian's `[keys] sites`, and beside those of each [[site]].
# site = "main"
# Bytes of user metadata that the storage server takes: 2048 on AWS.
metadata_limit_bytes = 2048
# Copies are made by the storage server, without moving data. `false` has all of them go through the proxy.
server_side_copy = true
# Bytes that it copies in one request: 5 GiB on AWS. Larger objects are copied in pieces.
copy_limit_bytes = 5368709120

# A further storage server, for the buckets that name it with `site`. It has all the settings of [storage], and a state bucket of its
# own; the custodian has to know it: `[[keys.site]]` there (docs/OPERATING.md, "Sites").
# [[site]]
# name = "singapore"
# url = "https://s3.singapore.example.org"
# access_key = "claviger-sg"
# secret_key_file = "secrets/storage-singapore.key"

# Who holds the KEKs: `claviger custodian`, or an OpenBao or Vault server (docs/OPERATING.md).
[custodian]
kind = "transit"
# Several custodians over one store are tried in turn.
urls = ["https://{custodian_host}:8200"]
ca_file = "{ca}"
# Its one URI name is this proxy's identity in policies and in the custodian's log.
certificate_file = "{client}"
key_file = "{client_key}"
# Be told at once when a KEK is disabled, a principal revoked or the policy changed. OpenBao and Vault cannot tell.
watch = true

# How long branch keys are leased. These are the defaults.
# [leases]
# read_lease_s = 300
# write_renew_s = 3600

# The KEK of every bucket that has no rule of its own. Without this section, other buckets do not exist for clients.
[default_bucket]
kek = "{kek}"

# A bucket with rules of its own:
# [[bucket]]
# name = "payroll"                     # for clients
# site = "singapore"                   # on another storage server than that of [storage]
# storage_name = "va-payroll"          # on the storage server
# kek = "payroll"
# further_keks = []                    # that clients may choose
# former_keks = ["{kek}"]              # of old objects: they open, nothing new is encrypted under them
# accept_writers = ["proxy/{region}"]  # whose objects are opened

# Each client signs with its own access key, and may do only what a grant says.
[[client]]
access_key = "{access_key}"
secret_key_file = "{client_secret}"
# Its name in key policies and logs.
principal = "first-application"
reason = "customer-initiated"

[[client.grant]]
# Names, prefixes such as "logs-*", or "*".
buckets = ["*"]
# Of: "read", "write", "delete", "list", "bucket" (make and remove buckets), "configure" (their settings).
access = ["read", "write", "delete", "list", "bucket"]

# Requests without a signature are refused. With this section they go to the storage server unsigned, so that it decides
# by its own ACLs and policies what everybody may; keys are used in the name of the principal "anonymous".
# [anonymous]
# reason = "customer-initiated"
# [[anonymous.grant]]
# buckets = ["public-*"]
# access = ["read"]

# The log of record accesses, which nobody can quietly rewrite: who did what to which record. While it cannot be written,
# requests are refused.
[audit]
folder = "{access_log}"
# Its name. With the key in {access_log_key}, others verify the log.
origin = "{access_log_origin}"
key_file = "{access_log_seed}"
keys = "clear"                         # or "hashed": records go by the SHA-256 of their keys
required = true

# Metrics, health and readiness, for those who watch over it (docs/OPERATING.md, "Seeing").
# [metrics]
# listen = "127.0.0.1:9464"

# OpenTelemetry traces of requests, for a collector (likewise).
# [traces]
# endpoint = "http://127.0.0.1:4318/v1/traces"

[log]
format = "text"                        # or "json"
"#,
            certificate = names::CERTIFICATE,
            key = names::KEY,
            storage_secret = names::STORAGE_SECRET,
            ca = names::CA,
            client = names::PROXY_CLIENT,
            client_key = names::PROXY_CLIENT_KEY,
            access_log = names::ACCESS_LOG,
            access_log_key = names::ACCESS_LOG_KEY,
            access_log_seed = names::ACCESS_LOG_SEED,
            client_secret = names::CLIENT_SECRET,
        )
    }

    /// The custodian's, as TOML.
    pub(super) fn custodian_text(&self) -> String {
        let Self { region, trust_domain, .. } = self;
        format!(
            r#"# The configuration of `claviger custodian`. `claviger check --config FILE` says what is wrong with it.
# Paths are relative to this file. Secrets stand in files of mode 600, never here.

[custodian]
listen = "0.0.0.0:8200"
# Its name among the custodians that share a store; each needs another.
instance = "custodian-1"
certificate_file = "{certificate}"
key_file = "{key}"
# Whoever connects must show a certificate of this CA, whose one URI name is spiffe://{trust_domain}/region/REGION/ROLE/NAME.
client_ca_file = "{client_ca}"
# client_crl_file = "certs/clients.crl"   # certificates that are no longer good
# The jurisdiction of KEKs that are made without one.
default_jurisdiction = "{region}"

# Everything in it is encrypted under the root key. "postgres" for several custodians: docs/OPERATING.md.
[store]
kind = "sqlite"
file = "{store}"

# What opens the root key: shares that people hold ...
[[seal]]
kind = "shares"
threshold = 2
count = 3
# ... and, if you like, a second way that needs no people, so that neither can be lost alone:
# [[seal]]
# kind = "pkcs11"
# module = "/usr/lib/softhsm/libsofthsm2.so"
# token = "claviger"
# key = "claviger-seal"
# pin_file = "secrets/pin"

# Each use of a key is written here before it happens, as a C2SP tiled log. `claviger audit verify` checks it.
[audit]
folder = "{audit}"
origin = "claviger.example/custodian-{region}"
# witnesses = ["NAME+HASH+KEY"]          # parties whose cosignatures are taken: `claviger audit witness`

# Changes to this file take effect once two officers approve.
[policy]
file = "{policy}"

# How many officers besides the one who asks.
[approvals]
required = 2
grants_required = 1

# What the life of keys is bound to.
[keys]
# How long a key that is to be destroyed is only switched off before it can be erased: 7 to 365 days.
destroy_wait_days = 30
# The state buckets that have to hold the directory before an old version is retired, and how many seconds after a rotation that
# may be: the proxies' longest lease, and a margin; 3,900 and more. Every custodian on one store must have the same.
# sites = ["main"]
# retire_wait_s = 3900
# Buckets on another storage server (`[[site]]` in proxy.toml): their branch keys have to be there instead.
# [[keys.site]]
# name = "singapore"
# buckets = ["payroll"]

# Metrics, health and readiness, for those who watch over it (docs/OPERATING.md, "Seeing").
# [metrics]
# listen = "127.0.0.1:9465"

# OpenTelemetry traces of requests, for a collector (likewise).
# [traces]
# endpoint = "http://127.0.0.1:4318/v1/traces"

[log]
format = "text"                        # or "json"
"#,
            certificate = names::CUSTODIAN,
            key = names::CUSTODIAN_KEY,
            client_ca = names::CLIENT_CA,
            store = names::STORE,
            audit = names::AUDIT,
            policy = names::POLICY,
        )
    }
}

/// As a TOML list; what comes in was checked and needs no escapes.
fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(", "))
}
