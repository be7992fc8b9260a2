//! Which containers and blobs take part. Names are compared as they are: nothing is folded or decoded here.

/// What to take and what to leave out. The default takes everything; what is left out wins over what is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only these containers; `None` for all.
    pub containers: Option<Vec<String>>,
    /// Only blobs whose names start with one of these; empty for all.
    pub prefixes: Vec<String>,
    /// No containers whose names start with one of these.
    pub exclude_container_prefixes: Vec<String>,
    /// No blobs whose names fit one of these patterns: `*` stands for any characters, `?` for one, slashes included.
    pub exclude_names: Vec<String>,
}

impl Filter {
    /// Whether anything of a container can take part.
    pub fn matches_container(&self, container: &str) -> bool {
        let is_wanted = self.containers.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == container));
        is_wanted && !self.exclude_container_prefixes.iter().any(|prefix| container.starts_with(prefix.as_str()))
    }

    /// Whether a blob takes part.
    pub fn matches(&self, container: &str, name: &str) -> bool {
        self.matches_container(container)
            && (self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())))
            && !self.exclude_names.iter().any(|pattern| fits(pattern, name))
    }

    /// The prefixes to list a container by: sorted, without those that another one covers; one empty prefix for all.
    pub fn listing_prefixes(&self) -> Vec<String> {
        let mut prefixes = self.prefixes.clone();
        if prefixes.is_empty() {
            prefixes.push(String::new());
        }
        prefixes.sort();
        prefixes.dedup_by(|next, kept| next.starts_with(kept.as_str()));
        prefixes
    }
}

/// Whether `name` fits `pattern` as a whole. Takes at most the product of their lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star was and how much of the name it stands for: the only place worth going back to.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(expected) if *expected == '?' || *expected == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    in_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_default_takes_everything() {
        assert!(Filter::default().matches("any", "thing"));
        assert_eq!(Filter::default().listing_prefixes(), [""]);
    }

    #[test]
    fn leaving_out_wins() {
        let filter = Filter {
            containers: Some(strings(&["photos", "photos-old"])),
            prefixes: strings(&["2024/", "2025/"]),
            exclude_container_prefixes: strings(&["photos-"]),
            exclude_names: strings(&["*.tmp", "2024/??/raw*"]),
        };
        assert!(filter.matches("photos", "2024/a"));
        assert!(!filter.matches("photos", "2023/a"));
        assert!(!filter.matches("photos-old", "2024/a"));
        assert!(!filter.matches("other", "2024/a"));
        assert!(!filter.matches("photos", "2024/a.tmp"));
        assert!(!filter.matches("photos", "2024/01/raw/x"));
        assert!(filter.matches("photos", "2024/1/raw"));
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name) in
            [("", ""), ("*", ""), ("*", "a/b"), ("a*c", "abc"), ("a*b*c", "aXbbYc"), ("?", "ü"), ("**x", "x")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("?", ""), ("a*c", "abd"), ("A", "a"), ("a", "ab"), ("*b", "abc")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn nothing_is_listed_twice() {
        let filter = Filter { prefixes: strings(&["b", "a/b", "a", "b"]), ..Filter::default() };
        assert_eq!(filter.listing_prefixes(), ["a", "b"]);
    }
}
