//! The account at the CA (RFC 8555 §7.3): its key is stored before the CA hears of it, so a run that is killed makes no second one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instant_acme::{Account, Key};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::fetch::{Client, with_nonce};
use super::problem::Failure;
use super::state::{self, State};
use crate::bundle::acme::Ca;

/// The account of `ca`, created if there is none. Without `state`, one for this run only.
pub(super) async fn open(state: Option<&State>, client: &Client, ca: &Ca) -> Result<Account, Failure> {
    let mut kept = stored(state, ca)?;
    let key = decoded(&kept.key)?;
    let failed = |error: instant_acme::Error| Failure {
        account_wide: true,
        ..Failure::of_call(&error, &[], &client.seen())
    };
    let account = match &kept.id {
        Some(id) => Account::builder_with_http(Box::new(client.clone()))
            .from_parts(id.clone(), key, ca.directory.clone())
            .await
            .map_err(failed)?,
        None => {
            let created = with_nonce!(async {
                let pair = (Key::from_pkcs8_der(key.clone_key())?, key.clone_key().into());
                let builder = Account::builder_with_http(Box::new(client.clone()));
                builder.create_from_key(pair, ca.directory.clone()).await
            });
            let (account, _) = created.map_err(failed)?;
            kept.id = Some(account.id().to_owned());
            kept.contact = None;
            keep(state, &kept)?;
            account
        }
    };
    if kept.contact != ca.contact {
        let contact: Vec<String> = ca.contact.iter().map(|mail| format!("mailto:{mail}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        with_nonce!(account.update_contacts(&contact)).map_err(failed)?;
        kept.contact.clone_from(&ca.contact);
        keep(state, &kept)?;
    }
    Ok(account)
}

/// What is stored of the account; with a new key where that is nothing.
fn stored(state: Option<&State>, ca: &Ca) -> Result<state::Account, Failure> {
    if let Some(account) = state.and_then(|state| state.account(&ca.directory)) {
        return Ok(account);
    }
    let (_, key) = Key::generate_pkcs8().map_err(|_| Failure::of_making("cannot create an account key"))?;
    let new = state::Account {
        directory: ca.directory.clone(),
        key: Zeroizing::new(STANDARD.encode(key.secret_pkcs8_der())),
        id: None,
        contact: None,
        blocked_until: 0,
        poll_at: 0,
    };
    keep(state, &new)?;
    Ok(new)
}

fn keep(state: Option<&State>, account: &state::Account) -> Result<(), Failure> {
    state.map_or(Ok(()), |state| state.keep_account(account)).map_err(|error| Failure::of_state(&error))
}

fn decoded(key: &str) -> Result<PrivatePkcs8KeyDer<'static>, Failure> {
    let bytes = STANDARD.decode(key).map_err(|_| Failure::of_making("the stored account key is damaged"))?;
    Ok(PrivatePkcs8KeyDer::from(bytes))
}
