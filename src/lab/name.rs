//! Names as types: text that was checked once, at the edge, and is safe ever after.
//!
//! A value of one of these types can stand in a rule, a path or an argument vector without
//! quoting, because the grammar it was parsed by has no character that means anything there.

use std::{borrow::Borrow, fmt, str::FromStr};

/// Why a text is not a name of the asked kind, in Kubernetes' own words where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// Declares a checked name: a newtype over `String` with one validating constructor.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok($name(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A DNS-1123 label: the name of a lab, node, pod, client, container or namespace.
    Name, dns_1123_label
}
name_type! {
    /// A Service's name: a DNS-1123 label, as Kubernetes 1.37 has it (it may start with a digit).
    ServiceName, dns_1123_label
}
name_type! {
    /// A DNS-1123 subdomain: a cluster domain, an external name.
    Domain, dns_1123_subdomain
}
name_type! {
    /// The name of a container port: an IANA service name of at most 15 characters.
    PortName, iana_service_name
}
name_type! {
    /// The name of a Service port: a DNS-1123 label.
    ServicePortName, dns_1123_label
}
name_type! {
    /// A network interface name: 1 to 15 bytes, as `dev_valid_name` in the kernel has it, and
    /// narrower: only characters that need no quoting anywhere.
    IfName, interface_name
}
name_type! {
    /// A label key: an optional DNS prefix and `/`, then a qualified name.
    LabelKey, label_key
}
name_type! {
    /// A label value: empty, or a qualified name of at most 63 characters.
    LabelValue, label_value
}

fn refuse(text: impl Into<String>) -> Result<(), NameError> {
    Err(NameError(text.into()))
}

fn dns_1123_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return refuse("must not be empty");
    }
    if text.len() > 63 {
        return refuse(format!("must be no more than 63 characters (it has {})", text.chars().count()));
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    if bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last()) {
        return Ok(());
    }
    refuse(
        "must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    )
}

fn dns_1123_subdomain(text: &str) -> Result<(), NameError> {
    if text.len() > 253 {
        return refuse("must be no more than 253 characters");
    }
    for label in text.split('.') {
        if dns_1123_label(label).is_err() {
            return refuse(
                "must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            );
        }
    }
    Ok(())
}

fn iana_service_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 15 {
        return refuse("must be 1 to 15 characters");
    }
    let bytes = text.as_bytes();
    if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
        return refuse("must contain only lower case alphanumeric characters and '-'");
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        return refuse("must contain at least one letter");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return refuse("must not begin or end with '-'");
    }
    if text.contains("--") {
        return refuse("must not contain consecutive hyphens");
    }
    Ok(())
}

fn interface_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return refuse("must not be empty");
    }
    if text.len() > 15 {
        return refuse(format!("is {} bytes long; the kernel allows an interface name 15", text.len()));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return refuse("must consist of letters, digits, '-', '_' or '.'");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return refuse("must start with a letter or a digit");
    }
    Ok(())
}

fn qualified_name(text: &str) -> Result<(), NameError> {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = text.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last());
    if fits {
        return Ok(());
    }
    refuse(
        "must be at most 63 characters: alphanumeric, '-', '_' or '.', and must start and end with an alphanumeric character",
    )
}

fn label_key(text: &str) -> Result<(), NameError> {
    match text.split_once('/') {
        Some((prefix, name)) => dns_1123_subdomain(prefix).and_then(|()| qualified_name(name)),
        None => qualified_name(text),
    }
}

fn label_value(text: &str) -> Result<(), NameError> {
    if text.is_empty() { Ok(()) } else { qualified_name(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
        }
    }

    #[test]
    fn labels() {
        let long = "a".repeat(63);
        check::<Name>(
            &["a", "pod1a", "1svc", "a-b", &long],
            &["", "-a", "a-", "A", "a_b", "a.b", "a b", "$(id)", "a\nb", "ä", "a/b", &"a".repeat(64)],
        );
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        check::<IfName>(
            &["br0", "host-veth-pod1a"],
            &["", ".", "..", "a/b", "br 0", "sixteen-bytes-xx", "-x", "br0:1"],
        );
    }

    #[test]
    fn port_names() {
        check::<PortName>(&["http", "h2", "dns-tcp"], &["", "80", "HTTP", "-a", "a--b", "sixteen-chars-xx"]);
    }

    #[test]
    fn label_keys_and_values() {
        check::<LabelKey>(&["app", "app.kubernetes.io/name", "A_b"], &["", "/x", "a/", "a/b/c", "a b", "-a"]);
        check::<LabelValue>(&["", "cs-pod", "A.b_c"], &["-a", "a b", &"x".repeat(64)]);
    }

    #[test]
    fn domains() {
        check::<Domain>(&["cluster.local", "a"], &["", ".", "a..b", "a.", "-a.b", "A.b", &"a.".repeat(130)]);
    }
}
