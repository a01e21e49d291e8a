//! `netlab new`: a lab file to begin with.

use std::{borrow::Cow, fs::OpenOptions, io::Write, path::PathBuf, process::ExitCode};

use super::{
    args, grid,
    output::{Terminal, print, table},
};
use crate::error::{Context, Error, Result};

/// A lab file to begin with.
struct Template {
    name: &'static str,
    about: &'static str,
    text: &'static str,
}

/// The labs of this repository.
const TEMPLATES: &[Template] = &[
    Template {
        name: "minimal",
        about: "the smallest useful lab: every default at work",
        text: include_str!("../../labs/minimal.toml"),
    },
    Template {
        name: "clusterip",
        about: "two nodes, three pods with python servers, a ClusterIP Service",
        text: include_str!("../../labs/clusterip.toml"),
    },
    Template {
        name: "nodeport",
        about: "the same behind a NodePort, with a machine outside the cluster",
        text: include_str!("../../labs/nodeport.toml"),
    },
    Template {
        name: "echo",
        about: "the nodeport lab with built-in servers, which start at once",
        text: include_str!("../../labs/echo.toml"),
    },
    Template {
        name: "load-balancer",
        about: "three nodes behind a load balancer, with the traffic policies Cluster and Local",
        text: include_str!("../../labs/load-balancer.toml"),
    },
    Template {
        name: "echo-svc",
        about: "a pod that asks a Service by its name",
        text: include_str!("../../labs/echo-svc.toml"),
    },
    Template {
        name: "quote",
        about: "three Services that talk to each other by name, small python programs",
        text: include_str!("../../labs/quote.toml"),
    },
    Template {
        name: "external-name",
        about: "an ExternalName Service, and the machine on the lab's internet that it stands for",
        text: include_str!("../../labs/external-name.toml"),
    },
    Template {
        name: "readiness",
        about: "pods that are not ready or are being deleted, and the Services that use them or do not",
        text: include_str!("../../labs/readiness.toml"),
    },
    Template {
        name: "probes",
        about: "probes of your own, one of every kind, with what must come of them",
        text: include_str!("../../labs/probes.toml"),
    },
    Template {
        name: "everything",
        about: "four nodes and a Service of every kind that netlab knows",
        text: include_str!("../../labs/everything.toml"),
    },
];

pub(super) fn new(args: &args::New, terminal: &Terminal) -> Result<ExitCode> {
    if args.template.as_deref() != Some(grid::NAME) {
        args.grid.check_unused()?;
    }
    let Some(name) = &args.template else {
        let about = TEMPLATES.iter().map(|template| (template.name, template.about)).chain([(grid::NAME, grid::ABOUT)]);
        let rows = about.map(|(name, about)| vec![name.to_owned(), about.to_owned()]);
        print(&table(&["TEMPLATE", "WHAT"], rows));
        return Ok(ExitCode::SUCCESS);
    };
    let text = text(name, args)?;
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    if path.as_os_str() == "-" {
        print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| {
        let error = Error::usage(format!("cannot make {}: {error}", path.display()));
        error.hint("name another file after the template")
    })?;
    file.write_all(text.as_bytes()).context(format!("cannot write {}", path.display()))?;
    terminal.say(format!("wrote {p}; now: netlab up {p}", p = path.display()));
    Ok(ExitCode::SUCCESS)
}

fn text(name: &str, args: &args::New) -> Result<Cow<'static, str>> {
    if name == grid::NAME {
        return args.grid.text().map(Cow::Owned);
    }
    let template = TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| {
        let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).chain([grid::NAME]).collect();
        Error::usage(format!("there is no template {name}")).hint(format!("the templates are: {}", names.join(", ")))
    })?;
    Ok(Cow::Borrowed(template.text))
}
