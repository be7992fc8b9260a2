//! Ranges of names, as a restore in place has them.

/// A range of names over `container/blob`, as Azure's point-in-time restore has it: from the minimum on, up to but without the maximum.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameRange {
    /// `container` or `container/blob`; empty is the start of the account.
    pub min: String,
    /// The same; empty is the end of the account.
    pub max: String,
}

impl NameRange {
    /// A whole container. Azure's clients write it as `c` … `c-0`, which is the same thing where names follow Azure's rules.
    pub fn container(name: &str) -> Self {
        Self { min: name.to_owned(), max: format!("{name}\0") }
    }

    /// The range that a request names.
    pub fn new(min: &str, max: &str) -> Self {
        let is_whole = !min.is_empty() && !min.contains('/') && max.strip_suffix("-0") == Some(min);
        if is_whole { Self::container(min) } else { Self { min: min.to_owned(), max: max.to_owned() } }
    }

    fn split(value: &str) -> (&str, &str) {
        value.split_once('/').unwrap_or((value, ""))
    }

    /// The range holds this blob.
    pub fn holds(&self, container: &str, name: &str) -> bool {
        let key = (container, name);
        Self::split(&self.min) <= key && (self.max.is_empty() || key < Self::split(&self.max))
    }

    /// The range holds blobs of this container.
    pub fn touches(&self, container: &str) -> bool {
        let (min, max) = (Self::split(&self.min), Self::split(&self.max));
        min.0 <= container && (self.max.is_empty() || container < max.0 || (container == max.0 && !max.1.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: &str, max: &str) -> NameRange {
        NameRange { min: min.into(), max: max.into() }
    }

    #[test]
    fn a_range_includes_its_start_and_not_its_end() {
        let blobs = range("c/blob1", "c/blob5");
        for (name, expected) in [("blob1", true), ("blob11", true), ("blob4x", true), ("blob5", false), ("a", false)] {
            assert_eq!(blobs.holds("c", name), expected, "{name}");
        }
        let whole = NameRange::new("c", "c-0");
        assert!(!whole.holds("c (old)", "x"));
        assert!(whole.holds("c", "anything") && whole.touches("c"));
        assert!(!whole.holds("c-0", "x") && !whole.holds("d", "x") && !whole.touches("c-0") && !whole.touches("b"));
        assert!(range("", "").holds("any", "thing"));
    }
}
