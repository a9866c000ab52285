//! The contract's `view`: what a plugin may read of the message at hand, and how it records edits.

use wasmtime::component::Resource;

use super::bindings::types::TargetKind as WitKind;
use super::bindings::view;
use super::guest::Guest;
use super::subject::{
    BackendResponse, CallView, CatalogEdit, CatalogView, Edits, PatchView, RequestView, ResponseView,
};
use crate::call::{Call, Credential, TargetKind};
use crate::mcp::splice::{self, Edit};

/// Most edits one hook may record.
const MAX_EDITS: usize = 4096;

impl Guest {
    fn credential(&self) -> wasmtime::Result<&Credential> {
        self.subject
            .credential
            .as_deref()
            .ok_or_else(|| wasmtime::format_err!("there is no request in this call"))
    }

    /// The call, for one of the facts of its target.
    fn target(&mut self) -> wasmtime::Result<&Call> {
        self.read.target = true;
        self.the_call()
    }

    /// The call, for one of the facts of its caller.
    fn caller(&mut self) -> wasmtime::Result<&Call> {
        self.read.caller = true;
        self.the_call()
    }

    /// The call, for what is in this one only.
    fn itself(&mut self) -> wasmtime::Result<&Call> {
        self.read.more = true;
        self.the_call()
    }

    fn the_call(&self) -> wasmtime::Result<&Call> {
        self.subject.call.as_deref().ok_or_else(|| wasmtime::format_err!("there is no call in this hook"))
    }

    fn answer(&self) -> wasmtime::Result<&BackendResponse> {
        self.subject.answer.as_ref().ok_or_else(|| wasmtime::format_err!("there is no response in this hook"))
    }

    /// The same for a text that is always there.
    fn word(&mut self, text: String) -> wasmtime::Result<String> {
        self.charge(text.len())?;
        Ok(text)
    }

    /// Hands a text to the guest and charges its bytes.
    fn text(&mut self, text: Option<String>) -> wasmtime::Result<Option<String>> {
        if let Some(text) = &text {
            self.charge(text.len())?;
        }
        Ok(text)
    }

    /// Edits of one kind are bounded in number as well: one may have no bytes.
    fn one_more(&mut self, so_far: impl FnOnce(&Edits) -> usize) -> wasmtime::Result<()> {
        if so_far(&self.subject.edits) >= MAX_EDITS {
            return Err(self.limit("more than 4096 edits in one hook"));
        }
        Ok(())
    }

    fn record(&mut self, bytes: usize, edit: Edit) -> wasmtime::Result<()> {
        self.charge(bytes)?;
        self.one_more(|edits| edits.body.len())?;
        self.subject.edits.body.push(edit);
        Ok(())
    }

    fn record_catalog(&mut self, bytes: usize, edit: CatalogEdit) -> wasmtime::Result<()> {
        self.charge(bytes)?;
        if self.subject.catalog_edits.len() >= 16 * MAX_EDITS {
            return Err(self.limit("more than 65536 catalog edits in one hook"));
        }
        self.subject.catalog_edits.push(edit);
        Ok(())
    }
}

impl view::Host for Guest {}

impl view::HostRequest for Guest {
    fn door(&mut self, _: Resource<RequestView>) -> wasmtime::Result<String> {
        let word = self.credential()?.door.to_owned();
        self.word(word)
    }
    fn bearer(&mut self, _: Resource<RequestView>) -> wasmtime::Result<Option<String>> {
        let bearer = self.credential()?.bearer.clone();
        self.text(bearer)
    }
    fn header(&mut self, _: Resource<RequestView>, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(name.len())?;
        let found = self.credential()?.header(&name).map(str::to_owned);
        self.text(found)
    }
    fn attr(&mut self, _: Resource<RequestView>, key: String) -> wasmtime::Result<Option<String>> {
        self.charge(key.len())?;
        let found = self.credential()?.attr(&key).map(str::to_owned);
        self.text(found)
    }
    fn drop(&mut self, _: Resource<RequestView>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl view::HostCall for Guest {
    fn id(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = self.itself()?.id.clone();
        self.word(word)
    }
    fn method(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = self.target()?.method.clone();
        self.word(word)
    }
    fn kind(&mut self, _: Resource<CallView>) -> wasmtime::Result<WitKind> {
        Ok(self.target()?.target.kind.into())
    }
    fn name(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = (*self.target()?.target.name).to_owned();
        self.word(word)
    }
    fn backend(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = (*self.target()?.target.backend).to_owned();
        self.word(word)
    }
    fn upstream_name(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = (*self.target()?.target.upstream).to_owned();
        self.word(word)
    }
    fn subject(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = self.caller()?.principal.subject.clone();
        self.word(word)
    }
    fn role(&mut self, _: Resource<CallView>) -> wasmtime::Result<String> {
        let word = self.caller()?.principal.role.clone();
        self.word(word)
    }
    fn claim(&mut self, _: Resource<CallView>, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(name.len())?;
        let claims = &self.caller()?.principal.claims;
        let found = claims.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        self.text(found)
    }
    fn param(&mut self, _: Resource<CallView>, pointer: String) -> wasmtime::Result<Option<String>> {
        self.charge(pointer.len())?;
        let found = splice::get(self.itself()?.params.get(), &pointer).map(str::to_owned);
        self.text(found)
    }
    fn body(&mut self, _: Resource<CallView>, max: u32) -> wasmtime::Result<Option<String>> {
        let params = self.itself()?.params.get();
        let body = (params.len() <= max as usize).then(|| params.to_owned());
        self.text(body)
    }
    fn attr(&mut self, _: Resource<CallView>, key: String) -> wasmtime::Result<Option<String>> {
        self.charge(key.len())?;
        let call = self.itself()?;
        let found = match key.as_str() {
            "session.id" => Some((*call.session).to_owned()),
            "door" => Some(call.door.to_owned()),
            "peer.ip" => call.about.address.as_deref().map(str::to_owned),
            _ => None,
        };
        self.text(found)
    }
    fn definition(&mut self, _: Resource<CallView>, pointer: String) -> wasmtime::Result<Option<String>> {
        self.charge(pointer.len())?;
        // A list may change between two calls.
        let definition = self.itself()?.about.definition.as_ref();
        let found = definition.and_then(|it| splice::get(it.json(), &pointer)).map(str::to_owned);
        self.text(found)
    }
    fn tell(&mut self, _: Resource<CallView>, header: String, value: String) -> wasmtime::Result<bool> {
        self.charge(header.len() + value.len())?;
        let plugin = self.shared.name.clone();
        // What is said to one caller must not be left out for the next one, so such an answer is never given again.
        let told = self.itself()?.about.told.as_ref();
        Ok(told.is_some_and(|told| told.add(&plugin, &header, &value)))
    }
    fn drop(&mut self, _: Resource<CallView>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl view::HostResponse for Guest {
    fn is_error(&mut self, _: Resource<ResponseView>) -> wasmtime::Result<bool> {
        Ok(self.answer()?.is_error)
    }
    fn error_code(&mut self, _: Resource<ResponseView>) -> wasmtime::Result<Option<i64>> {
        Ok(self.answer()?.error_code)
    }
    fn value(&mut self, _: Resource<ResponseView>, pointer: String) -> wasmtime::Result<Option<String>> {
        self.charge(pointer.len())?;
        let result = std::str::from_utf8(&self.answer()?.result)?;
        let found = splice::get(result, &pointer).map(str::to_owned);
        self.text(found)
    }
    fn body(&mut self, _: Resource<ResponseView>, max: u32) -> wasmtime::Result<Option<String>> {
        let result = std::str::from_utf8(&self.answer()?.result)?;
        let body = (result.len() <= max as usize).then(|| result.to_owned());
        self.text(body)
    }
    fn drop(&mut self, _: Resource<ResponseView>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl view::HostPatch for Guest {
    fn set(&mut self, _: Resource<PatchView>, pointer: String, json: String) -> wasmtime::Result<()> {
        self.record(pointer.len() + json.len(), Edit::Set { pointer, json })
    }
    fn set_default(&mut self, _: Resource<PatchView>, pointer: String, json: String) -> wasmtime::Result<()> {
        self.record(pointer.len() + json.len(), Edit::Default { pointer, json })
    }
    fn remove(&mut self, _: Resource<PatchView>, pointer: String) -> wasmtime::Result<()> {
        self.record(pointer.len(), Edit::Remove { pointer })
    }
    fn rename(&mut self, _: Resource<PatchView>, pointer: String, name: String) -> wasmtime::Result<()> {
        self.record(pointer.len() + name.len(), Edit::Rename { pointer, name })
    }
    fn set_header(&mut self, _: Resource<PatchView>, name: String, value: String) -> wasmtime::Result<()> {
        self.charge(name.len() + value.len())?;
        self.one_more(|edits| edits.headers.len())?;
        self.subject.edits.headers.push((name, value));
        Ok(())
    }
    fn note(&mut self, _: Resource<PatchView>, key: String, value: String) -> wasmtime::Result<()> {
        self.charge(key.len() + value.len())?;
        self.one_more(|edits| edits.notes.len())?;
        self.subject.edits.notes.push((key, value));
        Ok(())
    }
    fn drop(&mut self, _: Resource<PatchView>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl view::HostCatalog for Guest {
    fn backend(&mut self, _: Resource<CatalogView>) -> wasmtime::Result<String> {
        let catalog = self.subject.catalog.as_ref();
        let word = catalog.map_or_else(String::new, |(backend, ..)| (**backend).to_owned());
        self.word(word)
    }
    fn kind(&mut self, _: Resource<CatalogView>) -> wasmtime::Result<WitKind> {
        Ok(self.subject.catalog.as_ref().map_or(TargetKind::Other, |(_, kind, _)| *kind).into())
    }
    fn len(&mut self, _: Resource<CatalogView>) -> wasmtime::Result<u32> {
        let len = self.subject.catalog.as_ref().map_or(0, |(.., offers)| offers.len());
        Ok(u32::try_from(len).unwrap_or(u32::MAX))
    }
    fn name(&mut self, _: Resource<CatalogView>, index: u32) -> wasmtime::Result<String> {
        let name = self.subject.catalog.as_ref().and_then(|(.., offers)| offers.get(index as usize));
        let name = name.map_or_else(String::new, |offer| offer.upstream.clone());
        self.word(name)
    }
    fn item(
        &mut self,
        _: Resource<CatalogView>,
        index: u32,
        pointer: String,
    ) -> wasmtime::Result<Option<String>> {
        self.charge(pointer.len())?;
        let offer = self.subject.catalog.as_ref().and_then(|(.., offers)| offers.get(index as usize));
        let found = offer.and_then(|offer| splice::get(offer.item.get(), &pointer)).map(str::to_owned);
        self.text(found)
    }
    fn hide(&mut self, _: Resource<CatalogView>, index: u32) -> wasmtime::Result<()> {
        self.record_catalog(0, CatalogEdit::Hide(index as usize))
    }
    fn rename(&mut self, _: Resource<CatalogView>, index: u32, name: String) -> wasmtime::Result<()> {
        self.record_catalog(name.len(), CatalogEdit::Rename(index as usize, name))
    }
    fn set(
        &mut self,
        _: Resource<CatalogView>,
        index: u32,
        pointer: String,
        json: String,
    ) -> wasmtime::Result<()> {
        let bytes = pointer.len() + json.len();
        self.record_catalog(bytes, CatalogEdit::Item(index as usize, Edit::Set { pointer, json }))
    }
    fn remove(&mut self, _: Resource<CatalogView>, index: u32, pointer: String) -> wasmtime::Result<()> {
        self.record_catalog(pointer.len(), CatalogEdit::Item(index as usize, Edit::Remove { pointer }))
    }
    fn drop(&mut self, _: Resource<CatalogView>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl From<TargetKind> for WitKind {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::Tool => Self::Tool,
            TargetKind::Resource => Self::Resource,
            TargetKind::Prompt => Self::Prompt,
            TargetKind::Route => Self::Route,
            TargetKind::Command => Self::Command,
            TargetKind::Control => Self::Control,
            TargetKind::Other => Self::Other,
        }
    }
}
