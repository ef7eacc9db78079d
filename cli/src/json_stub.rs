use crate::exit::Failure;
use objsync::Bytes;
use serde_json::Value as Json;
pub(crate) fn value_from_json(_: &Json) -> Result<Bytes, Failure> {
    todo!()
}
pub(crate) fn key_from_json(_: &Json) -> Result<Bytes, Failure> {
    todo!()
}
pub(crate) fn value_to_json(_: &[u8]) -> Result<Json, Failure> {
    todo!()
}
pub(crate) fn key_to_json(_: &[u8]) -> Result<Json, Failure> {
    todo!()
}
pub(crate) fn shown_value(_: &[u8], _: bool) -> Result<String, Failure> {
    todo!()
}
pub(crate) fn shown_key(_: &[u8], _: bool) -> Result<String, Failure> {
    todo!()
}
pub(crate) fn entry_line(_: &[u8], _: Option<&[u8]>) -> Result<String, Failure> {
    todo!()
}
pub(crate) fn entry_from_line(_: &[u8]) -> Result<(Bytes, Bytes), String> {
    todo!()
}
