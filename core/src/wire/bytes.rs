//! Big-endian fields off the front of a slice, and onto one.

use super::ParseError;

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(ParseError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, ParseError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u24(&mut self) -> Result<u32, ParseError> {
        self.array()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(ParseError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// `count` elements of `N` bytes each.
    pub(crate) fn chunks<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], ParseError> {
        let len = count.checked_mul(N).ok_or(ParseError::Truncated)?;
        Ok(self.bytes(len)?.as_chunks().0)
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is still to be written. The caller sizes it exactly: a field that does not fit is our bug,
/// found by a debug assertion, and is left out in release.
#[derive(Debug)]
pub(crate) struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, field: [u8; N]) {
        let out = std::mem::take(&mut self.0);
        let Some((head, rest)) = out.split_first_chunk_mut() else {
            debug_assert!(false, "the writer was sized for less than is written");
            return;
        };
        *head = field;
        self.0 = rest;
    }

    #[inline]
    pub(crate) fn u8(&mut self, value: u8) {
        self.put([value]);
    }

    #[inline]
    pub(crate) fn u16(&mut self, value: u16) {
        self.put(value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) {
        self.put(value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, value: u64) {
        self.put(value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn bytes(&mut self, field: &[u8]) {
        let out = std::mem::take(&mut self.0);
        let Some((head, rest)) = out.split_at_mut_checked(field.len()) else {
            debug_assert!(false, "the writer was sized for less than is written");
            return;
        };
        head.copy_from_slice(field);
        self.0 = rest;
    }

    /// Zeroes all that is left.
    pub(crate) fn zeroes(&mut self) {
        std::mem::take(&mut self.0).fill(0);
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.0.is_empty()
    }
}
