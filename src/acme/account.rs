//! The account at the CA (RFC 8555 §7.3). Its key is stored before it is sent, so a run that is killed does not create a second account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instant_acme::{Account, Error, Key};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::fetch::{Client, with_nonce};
use super::jws::{self, Session};
use super::problem::Failure;
use super::state::{self, State};
use crate::bundle::acme::{Binding, Ca};
use crate::bundle::file::word;

/// Largest file with a key for external account binding.
const BINDING_BYTES_MAX: u64 = 4 * 1024;

/// The account of `ca`, created if there is none. Without `state`, one for this run only.
pub(super) async fn open(state: Option<&State>, client: &Client, ca: &Ca) -> Result<Account, Failure> {
    let mut kept = stored(state, ca)?;
    let failed = |error: Error| of_account(&error, client);
    settle(state, client, &mut kept).await?;
    if kept.id.is_none() {
        create(client, ca, &mut kept).await?;
        keep(state, &kept)?;
    }
    let id = kept.id.clone().unwrap_or_default();
    let account = Account::builder_with_http(Box::new(client.clone()))
        .from_parts(id, decoded(&kept.key)?, ca.directory.clone())
        .await
        .map_err(failed)?;
    if kept.contact != ca.contact {
        let contact: Vec<String> = ca.contact.iter().map(|mail| format!("mailto:{mail}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        with_nonce!(account.update_contacts(&contact)).map_err(failed)?;
        kept.contact.clone_from(&ca.contact);
        keep(state, &kept)?;
    }
    Ok(account)
}

fn of_account(error: &Error, client: &Client) -> Failure {
    Failure { account_wide: true, ..Failure::of_call(error, &[], &client.seen()) }
}

async fn create(client: &Client, ca: &Ca, kept: &mut state::Account) -> Result<(), Failure> {
    let failed = |error: Error| of_account(&error, client);
    let bound = ca.eab.as_ref().map(binding_key).transpose()?;
    let bound = ca.eab.as_ref().zip(bound.as_deref());
    let bound = bound.map(|(eab, key)| jws::Binding { kid: &eab.kid, key });
    let session = Session::open(client, &ca.directory).await.map_err(failed)?;
    let key = signer(&kept.key)?;
    let found = session.create(&key, ca.contact.as_deref(), bound.as_ref()).await.map_err(failed)?;
    kept.id = Some(found.id);
    kept.caa = found.caa;
    kept.contact.clone_from(&ca.contact);
    Ok(())
}

fn binding_key(eab: &Binding) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = word(&eab.key_file);
    let bytes = state::read_public(&eab.key_file, BINDING_BYTES_MAX)
        .map_err(|found| Failure::binding_key(&file, found))?;
    let bytes = Zeroizing::new(bytes);
    let key = std::str::from_utf8(&bytes).ok().and_then(jws::binding_key).map(Zeroizing::new);
    key.ok_or_else(|| Failure::binding_key(&file, format!("{file} is not one key in base64url")))
}

/// Completes an interrupted change of the key: asks the CA which of the two keys is valid.
async fn settle(state: Option<&State>, client: &Client, kept: &mut state::Account) -> Result<(), Failure> {
    let Some(next) = kept.next_key.clone() else { return Ok(()) };
    let failed = |error: Error| of_account(&error, client);
    let session = Session::open(client, &kept.directory).await.map_err(failed)?;
    let found = session.find(&signer(&next)?).await.map_err(failed)?;
    if found.is_some_and(|found| Some(found.id) == kept.id) {
        kept.key = next;
    }
    kept.next_key = None;
    keep(state, kept)
}

/// Changes the account's key (RFC 8555 §7.3.5). The new one is stored first: if the answer is lost, the next run asks which one is valid.
pub(super) async fn roll_over(state: &State, client: &Client, ca: &Ca) -> Result<state::Account, Failure> {
    let mut kept = stored(Some(state), ca)?;
    settle(Some(state), client, &mut kept).await?;
    let Some(id) = kept.id.clone() else {
        return Err(Failure::of_making("there is no account yet: `sanedge renew` creates it"));
    };
    let new = new_key()?;
    kept.next_key = Some(new.clone());
    keep(Some(state), &kept)?;
    let session = Session::open(client, &ca.directory).await.map_err(|error| of_account(&error, client))?;
    match session.change_key(&id, &signer(&kept.key)?, &signer(&new)?).await {
        Ok(()) => kept.key = new,
        // A refused change was not made. If the answer was lost, it may have been.
        Err(error @ (Error::Api(_) | Error::Unsupported(_))) => {
            kept.next_key = None;
            keep(Some(state), &kept)?;
            return Err(of_account(&error, client));
        }
        Err(error) => return Err(of_account(&error, client)),
    }
    kept.next_key = None;
    keep(Some(state), &kept)?;
    Ok(kept)
}

/// The stored account; a new one with a new key if none is stored.
fn stored(state: Option<&State>, ca: &Ca) -> Result<state::Account, Failure> {
    if let Some(account) = state.and_then(|state| state.account(&ca.directory)) {
        return Ok(account);
    }
    let new = state::Account {
        directory: ca.directory.clone(),
        key: new_key()?,
        next_key: None,
        id: None,
        contact: None,
        caa: Vec::new(),
        wants_user: None,
        blocked_until: 0,
    };
    keep(state, &new)?;
    Ok(new)
}

fn new_key() -> Result<Zeroizing<String>, Failure> {
    let (_, key) = Key::generate_pkcs8().map_err(|_| Failure::of_making("cannot create an account key"))?;
    Ok(Zeroizing::new(STANDARD.encode(key.secret_pkcs8_der())))
}

fn keep(state: Option<&State>, account: &state::Account) -> Result<(), Failure> {
    state.map_or(Ok(()), |state| state.keep_account(account)).map_err(|error| Failure::of_state(&error))
}

fn decoded(key: &str) -> Result<PrivatePkcs8KeyDer<'static>, Failure> {
    let bytes = STANDARD.decode(key).map_err(|_| Failure::of_making("the stored account key is damaged"))?;
    Ok(PrivatePkcs8KeyDer::from(bytes))
}

/// The account's key, for messages that are signed here.
pub(super) fn signer(key: &str) -> Result<jws::Key, Failure> {
    jws::Key::new(decoded(key)?.secret_pkcs8_der()).map_err(|error| Failure::of_making(&error.to_string()))
}
