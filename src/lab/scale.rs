//! The text of a lab file with another number of replicas, and otherwise as it is.

use toml_edit::{DocumentMut, Item, TableLike, Value, value};

/// Why a text cannot be given other replicas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// It is not TOML.
    #[error("the lab file is not TOML")]
    NotToml,
    /// No `[[pod]]` has this name.
    #[error("there is no [[pod]] called {0}")]
    NoPod(String),
    /// The `[[pod]]` stands for one pod, whose name would change.
    #[error("the [[pod]] {0} has no `replicas`")]
    NoReplicas(String),
}

/// Writes another number of replicas of a `[[pod]]` into a text. Where several namespaces have a pod of
/// this name, `NAME.NAMESPACE` says which one.
///
/// # Errors
///
/// When there is no such `[[pod]]`, or it has no replicas.
pub fn scaled(text: &str, name: &str, replicas: u32) -> Result<String, ScaleError> {
    let mut document: DocumentMut = text.parse().map_err(|_| ScaleError::NotToml)?;
    let none = || ScaleError::NoPod(name.to_owned());
    let mut tables: Vec<&mut dyn TableLike> = match document.get_mut("pod").ok_or_else(none)? {
        Item::ArrayOfTables(tables) => tables.iter_mut().map(|table| table as _).collect(),
        Item::Value(Value::Array(tables)) => {
            tables.iter_mut().filter_map(Value::as_inline_table_mut).map(|table| table as _).collect()
        }
        _ => Vec::new(),
    };
    let table = tables.iter_mut().find(|table| is(&***table, name)).ok_or_else(none)?;
    let item = table.get_mut("replicas").ok_or_else(|| ScaleError::NoReplicas(name.to_owned()))?;
    let decor = item.as_value().map(|value| value.decor().clone());
    *item = value(i64::from(replicas));
    if let (Some(value), Some(decor)) = (item.as_value_mut(), decor) {
        *value.decor_mut() = decor;
    }
    Ok(document.to_string())
}

/// Whether a `[[pod]]` is meant by a name.
fn is(table: &dyn TableLike, name: &str) -> bool {
    let word = |key: &str| table.get(key).and_then(Item::as_str);
    let Some(own) = word("name") else { return false };
    match word("namespace") {
        None | Some("default") => own == name,
        Some(namespace) => name.strip_prefix(own).and_then(|rest| rest.strip_prefix('.')) == Some(namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "# A lab.\n[[pod]]\nname = \"web\"\nreplicas  =  2 # two of them\n\n[[pod]]\nname = \"one\"\n\n\
                       [[pod]]\nname = \"web\"\nnamespace = \"shop\"\nreplicas = 1\n";

    #[test]
    fn nothing_else_changes() {
        assert_eq!(scaled(LAB, "web", 5), Ok(LAB.replace("2 # two", "5 # two")));
        assert_eq!(scaled(LAB, "web.shop", 0), Ok(LAB.replace("replicas = 1", "replicas = 0")));
        let inline = "pod = [{ name = \"web\", replicas = 2 }, { name = \"x\" }]\n";
        assert_eq!(scaled(inline, "web", 3), Ok(inline.replace('2', "3")));
    }

    #[test]
    fn what_has_no_replicas_cannot_be_scaled() {
        assert_eq!(scaled(LAB, "one", 2), Err(ScaleError::NoReplicas("one".to_owned())));
        for name in ["web-0", "web.default", "nothing"] {
            assert_eq!(scaled(LAB, name, 2), Err(ScaleError::NoPod(name.to_owned())));
        }
        assert_eq!(scaled("", "web", 2), Err(ScaleError::NoPod("web".to_owned())));
        assert_eq!(scaled("[", "web", 2), Err(ScaleError::NotToml));
    }
}
