//! How many uses of keys the custodian's engine takes: unwrap and generate by 64 callers and by one, waiting for the disk and not.
//!
//! Run: `cargo bench --bench custodian_engine`. The folder is made under the current one, because /tmp may be memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use claviger::custodian::audit::{AuditLog, AuditSettings};
use claviger::custodian::embedded::Embedded;
use claviger::custodian::engine::{Engine, GatedCall, GenerateRequest};
use claviger::custodian::identity::SpiffeId;
use claviger::custodian::kek::{Ciphertext, DataKeyLen, KeyOptions};
use claviger::custodian::requester::Requester;
use claviger::custodian::seal::RootKey;
use claviger::custodian::seal::config::SealList;
use claviger::custodian::seal::make::NewSeal;
use claviger::custodian::store::{SealedStore, StoreSettings, create_sqlite};
use claviger::custody::context::BranchContext;
use claviger::names::{BranchId, KekName, LogicalBucket, Purpose, WriterDomain};
use claviger::tlog::storage::Disk;

const RUN: Duration = Duration::from_secs(5);

/// What is measured.
struct Scene {
    engine: Arc<Engine>,
    who: Requester,
    kek: KekName,
    context: BranchContext,
    wrapped: Ciphertext,
}

async fn scene(folder: &std::path::Path, disk: Disk) -> Result<Scene> {
    let root = RootKey::random()?;
    let (seals, _) = SealList::make(&root, &[NewSeal::Shares { threshold: 2, count: 3 }]).await?;
    let sql = Arc::new(create_sqlite(&folder.join("store.db"), StoreSettings::default()).await?);
    let store = Arc::new(SealedStore::create(sql, &root, &seals).await?);
    let settings = AuditSettings {
        folder: folder.join("audit"),
        instance: "bench".to_owned(),
        origin: "localhost/bench".to_owned(),
        checkpoint_interval: Duration::from_secs(5),
    };
    let audit = AuditLog::open_on(Arc::new(disk), &store, &settings).await?;
    let id = SpiffeId::parse("spiffe://localhost/region/us/proxy/bench")?;
    let custodian = Embedded::over(store, audit, id).await?;
    let (engine, who) = (Arc::clone(custodian.engine()), custodian.requester()?);
    let kek = KekName::new("records")?;
    let call = GatedCall { method: "POST", path: String::new(), body: String::new() };
    engine.create(&who, &kek, KeyOptions { derived: true, ..KeyOptions::default() }, &call).await?;
    let context = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("bench")?,
        writer: WriterDomain::new("proxy/us")?,
        id: BranchId::random()?,
    };
    let request = GenerateRequest { context: context.to_bytes(), ..GenerateRequest::default() };
    let wrapped = engine.generate(&who, &kek, DataKeyLen::Bits256, request).await?.value.ciphertext;
    Ok(Scene { engine, who, kek, context, wrapped })
}

impl Scene {
    async fn unwrap(&self) -> Result<()> {
        self.engine.decrypt(&self.who, &self.kek, &self.wrapped, &self.context.to_bytes(), b"").await?;
        Ok(())
    }

    async fn generate(&self) -> Result<()> {
        let context = BranchContext { id: BranchId::random()?, ..self.context.clone() };
        let request = GenerateRequest { context: context.to_bytes(), ..GenerateRequest::default() };
        self.engine.generate(&self.who, &self.kek, DataKeyLen::Bits256, request).await?;
        Ok(())
    }
}

async fn measure(name: &str, scene: &Arc<Scene>, callers: usize, generates: bool) -> Result<()> {
    let until = Instant::now() + RUN;
    let caller = |_| {
        let scene = Arc::clone(scene);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                if generates {
                    scene.generate().await?
                } else {
                    scene.unwrap().await?
                }
                latencies.push(begun.elapsed());
            }
            anyhow::Ok(latencies)
        })
    };
    let tasks: Vec<_> = (0..callers).map(caller).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
    let per_second = latencies.len() as f64 / RUN.as_secs_f64();
    report(&format!("{name} by {callers}: {per_second:.0}/s, p50 {:.2?}, p99 {:.2?}", at(0.5), at(0.99)));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a bench shows its figures on stdout")]
fn report(line: &str) {
    println!("{line}");
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        for (name, disk) in [("durable", Disk::durable()), ("not durable", Disk::assume_no_power_loss())] {
            let folder = tempfile::tempdir_in(".")?;
            let scene = Arc::new(scene(folder.path(), disk).await?);
            for (what, generates) in [("unwrap", false), ("generate", true)] {
                for callers in [64, 1] {
                    measure(&format!("{what}, {name}"), &scene, callers, generates).await?;
                }
            }
            scene.engine.close().await?;
        }
        Ok(())
    })
}
