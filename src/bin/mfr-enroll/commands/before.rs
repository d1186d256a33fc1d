//! The gallery to which photos are added.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use gstmfr::gallery::{Contract, Enrolment, Gallery};

use super::change::{contract_of, existing};
use crate::enrol::existing::{Outcomes, beside};
use crate::input::dataset::Collection;
use crate::options::{BuildOptions, GivenEnrolment};
use crate::output;
use crate::vision::batch::Embedders;

/// The output as it is before a run.
pub struct Before {
    /// The gallery that photos are added to; None where a new one is made.
    pub gallery: Option<(Gallery, Contract)>,
}

impl Before {
    pub fn of(options: &BuildOptions) -> Result<Self> {
        let path = &options.output;
        let gallery = match options.adds {
            true => existing(path)?,
            false => None,
        };
        if options.adds && gallery.is_none() {
            output::note(&format!("{} is not there, and is made", path.display()));
        }
        let gallery = gallery
            .map(|gallery| {
                let contract = contract_of(&gallery, path)?;
                if contract.enrolment.is_none() {
                    output::note(&format!(
                        "{} does not say by which options it was made; the default ones are taken",
                        path.display()
                    ));
                }
                anyhow::Ok((gallery, contract))
            })
            .transpose()?;
        Ok(Self { gallery })
    }

    /// The contract of the gallery that photos are added to.
    pub fn contract(&self) -> Option<&Contract> {
        self.gallery.as_ref().map(|(_, contract)| contract)
    }

    /// The options of enrolment: those given, else those of the gallery, else the default ones.
    pub fn enrolment(&self, given: &GivenEnrolment, path: &Path) -> Result<Enrolment> {
        let Some((_, contract)) = &self.gallery else {
            return Ok(given.complete(Enrolment::default()));
        };
        let own = contract.enrolment();
        if let Some(target_fpir) = given.target_fpir
            && target_fpir != own.target_fpir
        {
            bail!(
                "{} was made with --target-fpir {}, which holds for everybody in it; leave the option out or build anew",
                path.display(),
                own.target_fpir
            );
        }
        Ok(given.complete(own))
    }

    pub fn check_model(&self, embedders: &Embedders, path: &Path) -> Result<()> {
        if let Some((gallery, _)) = &self.gallery {
            gallery
                .check_model(embedders.model_sha256(), embedders.dim())
                .map_err(|error| error.at(path))?;
        }
        Ok(())
    }

    /// Checks that nobody has changed the gallery since it was read.
    pub fn check_unchanged(&self, path: &Path) -> Result<()> {
        let Some((gallery, _)) = &self.gallery else {
            return Ok(());
        };
        let is_same = existing(path)?.is_some_and(|now| now == *gallery);
        ensure!(
            is_same,
            "{} has been changed by another program meanwhile; nothing was written",
            path.display()
        );
        Ok(())
    }

    /// The new photos beside those of the gallery, and the results for the latter.
    pub fn beside(&self, new: Collection) -> (Collection, Outcomes) {
        match &self.gallery {
            Some((gallery, _)) => beside(gallery, new),
            None => (new, Outcomes::default()),
        }
    }
}
