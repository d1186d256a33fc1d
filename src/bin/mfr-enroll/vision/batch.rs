//! Photos looked at by several workers at once, and their faces embedded in batches by the same
//! workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use gstmfr::embed::{DEFAULT_BATCH_SIZE, Embedded, Embedder};
use gstmfr::nn::RuntimeError;
use ndarray::s;

use crate::options::Vision;
use crate::vision::finder::Finder;
use crate::workers;

/// The embedding networks of a run. One on a thread of its own for each worker embeds a third more
/// faces a second on the same cores than one network on as many threads.
#[derive(Debug)]
pub struct Embedders<'v> {
    vision: &'v Vision,
    /// Loaded when they are needed, the first at once.
    networks: Vec<Mutex<Option<Embedder>>>,
    dim: usize,
    model_sha256: String,
}

impl<'v> Embedders<'v> {
    pub fn load(vision: &'v Vision) -> Result<Self, RuntimeError> {
        let first = vision.embedder()?;
        let (dim, model_sha256) = (first.dim(), first.model_sha256().to_owned());
        let mut networks = vec![Mutex::new(Some(first))];
        networks.resize_with(vision.networks(), || Mutex::new(None));
        Ok(Self {
            vision,
            networks,
            dim,
            model_sha256,
        })
    }

    /// Numbers in an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// SHA-256 of the model file, in hexadecimal.
    pub fn model_sha256(&self) -> &str {
        &self.model_sha256
    }

    /// The faces in crops as `embed::crop_rgb8` gives them. The result does not depend on what is
    /// embedded together.
    pub fn embed<C: AsRef<[u8]>>(&self, crops: &[C]) -> Result<Embedded, RuntimeError> {
        let crops: Vec<&[u8]> = crops.iter().map(AsRef::as_ref).collect();
        let mut network = self.free();
        let embedder = match &mut *network {
            Some(embedder) => embedder,
            none => none.insert(self.vision.embedder()?),
        };
        embedder.embed_crops(&crops)
    }

    /// A network that nobody uses, or the first where there is none.
    fn free(&self) -> MutexGuard<'_, Option<Embedder>> {
        let mut networks = self.networks.iter();
        let free = networks.find_map(|network| network.try_lock().ok());
        free.unwrap_or_else(|| {
            self.networks[0]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        })
    }
}

/// Calls `look` for every item on as many workers as there are jobs, embeds the crops that it gives
/// along with its result, and calls `consume` on this thread with both, in the order of the items.
/// `crops` is about how many crops an item has.
pub fn embed_in_order<I: Sync, R: Send>(
    items: &[I],
    embedders: &Embedders,
    crops: usize,
    look: impl Fn(&mut Finder, &I) -> Result<(R, Vec<Vec<u8>>)> + Sync,
    mut consume: impl FnMut(usize, R, Embedded) -> Result<()>,
) -> Result<()> {
    let vision = embedders.vision;
    // A batch at a time, but something for everybody to do.
    let at_once = (DEFAULT_BATCH_SIZE / crops.max(1)).clamp(1, items.len() / vision.jobs + 1);
    let groups: Vec<&[I]> = items.chunks(at_once).collect();
    workers::in_order(
        &groups,
        vision.jobs,
        || Ok(Finder::new(vision)?),
        |finder, group| {
            let mut results = Vec::with_capacity(group.len());
            let mut all = Vec::new();
            for item in *group {
                let (result, crops) = look(finder, item)?;
                results.push((result, crops.len()));
                all.extend(crops);
            }
            Ok((results, embedders.embed(&all)?))
        },
        |group, (results, seen)| {
            let mut first = 0;
            for (i, (result, crops)) in results.into_iter().enumerate() {
                let own = first..first + crops;
                first = own.end;
                let embedded = Embedded {
                    embeddings: seen.embeddings.slice(s![own.clone(), ..]).to_owned(),
                    masks: seen.masks[own].to_vec(),
                };
                consume(group * at_once + i, result, embedded)?;
            }
            Ok(())
        },
    )
}
