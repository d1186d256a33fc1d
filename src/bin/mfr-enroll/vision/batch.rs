//! Processes photos by several workers in parallel, which also embed their faces in
//! batches.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use gstmfr::embed::{DEFAULT_BATCH_SIZE, Embedded, Embedder};
use gstmfr::nn::RuntimeError;
use ndarray::s;

use crate::options::Vision;
use crate::vision::finder::PhotoDetector;
use crate::workers;

/// The embedding networks of a run. With one network on a thread of its own for each worker, a third more
/// faces are embedded per second than with one network on as many threads.
#[derive(Debug)]
pub struct Embedders<'v> {
    vision: &'v Vision,
    /// Networks, which are loaded when they are needed, the first one at once.
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

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// SHA-256 of the model file, in hexadecimal.
    pub fn model_sha256(&self) -> &str {
        &self.model_sha256
    }

    /// Embeds the faces in crops as returned by `embed::crop_rgb8`. The result does not depend on which crops are
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

    /// A network that is not in use, or the first one if there is none.
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

/// Calls `look` for every item on as many workers as there are jobs, embeds the crops that it returns
/// along with its result, and calls `consume` on this thread with both, in the order of the items.
/// `crops` is the approximate number of crops per item.
pub fn embed_in_order<I: Sync, R: Send>(
    items: &[I],
    embedders: &Embedders,
    crops: usize,
    look: impl Fn(&mut PhotoDetector, &I) -> Result<(R, Vec<Vec<u8>>)> + Sync,
    mut consume: impl FnMut(usize, R, Embedded) -> Result<()>,
) -> Result<()> {
    let vision = embedders.vision;
    // Items are grouped to fill a batch, but every worker should have something to do.
    let at_once = (DEFAULT_BATCH_SIZE / crops.max(1)).clamp(1, items.len() / vision.jobs + 1);
    let groups: Vec<&[I]> = items.chunks(at_once).collect();
    workers::in_order(
        &groups,
        vision.jobs,
        || Ok(PhotoDetector::new(vision)?),
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
