//! What must hold for every input, one function per fuzz target.
//!
//! The fuzz targets hand each input they think of to these functions, and `tests/corpora.rs` hands the stored corpora to the
//! same ones under plain `cargo test`. A function that returns has found nothing wrong; one that panics has.

pub mod answers;
pub mod api;
pub mod approvals;
pub mod format;
pub mod forms;
pub mod headers;
mod input;
pub mod keys;
pub mod logs;
pub mod policy;
pub mod s3;
pub mod stored;
pub mod xml;

/// A property: panics when it does not hold for these bytes.
pub type Property = fn(&[u8]);

macro_rules! targets {
    ($($module:ident::$name:ident),* $(,)?) => {
        /// The name of each target and its property.
        pub const TARGETS: &[(&str, Property)] = &[$((stringify!($name), $module::$name)),*];
    };
}

targets! {
    format::envelope,
    format::tail,
    format::metadata,
    format::upload_record,
    format::part_marker,
    format::body,
    s3::sigv4,
    s3::request,
    s3::chunked,
    forms::form,
    forms::form_policy,
    xml::xml_listing,
    xml::xml_buckets,
    xml::xml_delete,
    xml::xml_error,
    xml::xml_multipart,
    xml::xml_client,
    xml::xml_stored,
    xml::xml_parts,
    headers::headers,
    headers::header_value,
    stored::job_checkpoint,
    stored::manifest,
    stored::directory,
    stored::seals,
    stored::bundle,
    stored::store_row,
    stored::certificate,
    answers::transit_answer,
    answers::watch_line,
    answers::config,
    answers::watch_stream,
    answers::content_range,
    answers::collector_answer,
    answers::scrape,
    keys::context,
    keys::kek,
    keys::ciphertext,
    keys::destruction,
    keys::backup,
    approvals::proposal,
    approvals::grant,
    approvals::revocation,
    approvals::json,
    logs::tlog_note,
    logs::tlog_tile,
    logs::tlog_proof,
    policy::policy,
    policy::cases,
    policy::identity,
    api::api_body,
    api::api_route,
}
