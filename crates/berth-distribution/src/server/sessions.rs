//! Uploads that are open, and who writes to each: one request at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;

use super::fault::{Code, Fault, Reply};
use super::service::Service;
use super::storage::upload::Upload;

/// Uploads that are kept open between requests. Others are on disk just the same; their hash is made
/// anew at their end.
const OPEN_MAX: usize = 1024;
/// The same for uploads into an object store, which have their last bytes in memory.
const OBJECTS_MAX: usize = 32;
/// How long a request waits for another that writes to the same upload: a connection that broke may
/// not have been noticed yet.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Sessions {
    slots: Mutex<HashMap<String, Slot>>,
    freed: Notify,
}

enum Slot {
    Idle(Box<Upload>),
    /// A request has it.
    Taken,
}

/// The right to write to one upload; given back when dropped.
pub(crate) struct Turn {
    service: Arc<Service>,
    id: String,
    back: Option<Box<Upload>>,
}

impl Turn {
    /// Which upload it is.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Leaves the upload for the next request.
    pub(crate) fn give_back(mut self, upload: Upload) {
        // One that failed is taken up again where it is stored.
        if !upload.is_broken() {
            self.back = Some(Box::new(upload));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let sessions = &self.service.sessions;
        let mut slots = sessions.lock();
        match self.back.take() {
            Some(upload) => {
                let most = if upload.is_object() {
                    OBJECTS_MAX
                } else {
                    OPEN_MAX
                };
                if slots.len() > most {
                    slots.retain(|_, slot| matches!(slot, Slot::Taken));
                }
                slots.insert(std::mem::take(&mut self.id), Slot::Idle(upload));
            }
            None => drop(slots.remove(&self.id)),
        }
        drop(slots);
        sessions.freed.notify_waiters();
    }
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request writes to the upload, or the next one may soon.
    pub(crate) fn is_taken(&self, id: &str) -> bool {
        matches!(self.lock().get(id), Some(Slot::Taken))
    }

    /// Closes uploads whose files a sweep has removed.
    pub(crate) fn close_idle(&self) {
        self.lock().retain(|_, slot| matches!(slot, Slot::Taken));
    }

    /// How many uploads are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

enum Try {
    Have(Box<Upload>),
    OnDisk,
    Wait,
}

/// Registers a new upload as taken.
pub(crate) fn begin(service: &Arc<Service>, upload: &Upload) -> Turn {
    let mut slots = service.sessions.lock();
    slots.insert(upload.id.clone(), Slot::Taken);
    drop(slots);
    Turn {
        service: service.clone(),
        id: upload.id.clone(),
        back: None,
    }
}

/// Takes the upload `id` of `repository`, waiting for a request that has it.
pub(crate) async fn take(
    service: &Arc<Service>,
    repository: &str,
    id: &str,
) -> Reply<(Upload, Turn)> {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let freed = service.sessions.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match try_take(service, repository, id) {
                Try::Wait => freed.await,
                taken => return taken,
            }
        }
    })
    .await;
    let Ok(taken) = waited else {
        return Err(Fault::new(
            Code::BlobUploadInvalid,
            format!("another request is writing to upload {id}"),
        )
        .with_status(StatusCode::CONFLICT));
    };
    let turn = Turn {
        service: service.clone(),
        id: id.to_owned(),
        back: None,
    };
    let have = match taken {
        Try::Have(upload) if !upload.is_object() => return Ok((*upload, turn)),
        Try::Have(upload) => Some(upload),
        Try::OnDisk | Try::Wait => None,
    };
    let (repository, id) = (repository.to_owned(), id.to_owned());
    let upload = service
        .blocking(move |service| match have {
            Some(upload) if service.storage.is_current(&upload)? => Ok(*upload),
            _ => service.storage.resume_upload(&repository, &id),
        })
        .await?;
    Ok((upload, turn))
}

fn try_take(service: &Service, repository: &str, id: &str) -> Try {
    let mut slots = service.sessions.lock();
    match slots.insert(id.to_owned(), Slot::Taken) {
        Some(Slot::Taken) => Try::Wait,
        Some(Slot::Idle(upload)) if upload.repository == repository => Try::Have(upload),
        // Under another repository's name there is no such upload: the look on disk says so, and the
        // true one is opened again when its own repository asks.
        Some(Slot::Idle(_)) | None => Try::OnDisk,
    }
}
