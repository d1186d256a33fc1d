//! Typed access to the attributes of a node.

use std::collections::HashMap;

use super::proto::{AttributeProto, attribute};

/// Attributes of a node that have not been read yet; any that remain in the end are unknown and an error.
pub struct Attributes<'a> {
    unread: HashMap<&'a str, &'a AttributeProto>,
}

impl<'a> Attributes<'a> {
    pub fn new(all: &'a [AttributeProto]) -> Result<Self, String> {
        let mut unread = HashMap::new();
        for attribute in all {
            if !attribute.ref_attr_name.is_empty() {
                return Err(format!(
                    "attribute {} is that of a function",
                    attribute.name
                ));
            }
            if unread.insert(attribute.name.as_str(), attribute).is_some() {
                return Err(format!("attribute {} is given twice", attribute.name));
            }
        }
        Ok(Self { unread })
    }

    fn take(&mut self, name: &str, kind: i32) -> Result<Option<&'a AttributeProto>, String> {
        match self.unread.remove(name) {
            Some(attribute) if attribute.r#type != kind => Err(format!(
                "attribute {name} is of type {}; expected {kind}",
                attribute.r#type
            )),
            attribute => Ok(attribute),
        }
    }

    pub fn int(&mut self, name: &str) -> Result<Option<i64>, String> {
        Ok(self.take(name, attribute::INT)?.map(|a| a.i))
    }

    pub fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.take(name, attribute::INTS)?.map(|a| a.ints.clone()))
    }

    pub fn float(&mut self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.take(name, attribute::FLOAT)?.map(|a| a.f))
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let text = self.take(name, attribute::STRING)?;
        text.map(|a| String::from_utf8(a.s.clone()).map_err(|_| format!("{name} is no text")))
            .transpose()
    }

    pub fn flag(&mut self, name: &str, otherwise: bool) -> Result<bool, String> {
        match self.int(name)? {
            None => Ok(otherwise),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(format!("{name} is {other}; expected 0 or 1")),
        }
    }

    /// Reads an attribute for which only one value is supported.
    pub fn expect(&mut self, name: &str, only: i64) -> Result<(), String> {
        match self.int(name)? {
            Some(other) if other != only => Err(format!("{name} is {other}; expected {only}")),
            _ => Ok(()),
        }
    }

    pub fn finish(self) -> Result<(), String> {
        let mut names: Vec<_> = self.unread.into_keys().collect();
        names.sort_unstable();
        if names.is_empty() {
            Ok(())
        } else {
            Err(format!("unknown attributes: {}", names.join(", ")))
        }
    }
}
