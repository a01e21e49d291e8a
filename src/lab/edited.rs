//! A text that differs from that of a lab in some Services only → its lab, without a look at all the
//! others.
//!
//! The Services that are the same in both texts are left out of what is read, and are in the lab as they
//! were. The lab is that of [`load_after`](super::load_after). Wherever that is not certain, and wherever there is
//! something to complain of, there is no answer here, and the whole text is to be read.

use std::ops::Range;

use memchr::{memchr_iter, memmem};

use super::{
    Kept, MOST_BYTES, check,
    excerpt::Excerpt,
    file::LabFile,
    lower::{self, Beside},
    model::{Common, Lab, Service, Span},
    name::Name,
    read_with,
};
use crate::diag::Problems;

/// A table of a text, with everything up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    at: Range<usize>,
    is_service: bool,
}

/// Two texts, table by table: how many are the same at both ends, and which are not.
struct Comparison {
    old: Vec<Block>,
    new: Vec<Block>,
    head: usize,
    tail: usize,
}

/// The lab of a text, given a lab and its text. `kept` says what the things of a lab keep: it is asked
/// about one with only those Services that are to be read again.
pub fn load_edited(
    (old, was): (&str, &Lab),
    new: &str,
    default_name: &Name,
    kept: impl FnOnce(&Lab) -> Kept,
) -> Option<Lab> {
    // Who is in front of the nodes, what is a name below a Service, and whom a probe asks, follows from
    // all Services.
    let depends =
        was.load_balancer.is_some() || !was.probes.is_empty() || was.pods.iter().any(|pod| pod.subdomain.is_some());
    if depends {
        return None;
    }
    let texts = Comparison::of(old, new)?;
    let services = |blocks: &[Block]| blocks.iter().filter(|block| block.is_service).count();
    let (head, gone) = (services(&texts.old[..texts.head]), services(texts.old_middle()));
    let tail = services(texts.old_tail());
    let starts = texts.old.iter().filter(|block| block.is_service).map(|block| block.at.start);
    // Those of the file come first, in its order; what else there is was added to them.
    let of_file = was.services.get(..head + gone + tail)?;
    if !starts.eq(of_file.iter().map(|service| service.at.start)) {
        return None;
    }
    let shift = isize::try_from(new.len()).ok()? - isize::try_from(old.len()).ok()?;
    let before = of_file[..head].to_vec();
    let after = of_file[head + gone..].iter().map(|service| shifted(service, shift)).collect::<Option<Vec<_>>>()?;
    let kept = kept(&only(was, &of_file[head..head + gone]));
    let beside = Beside { before, after };
    let fresh = services(texts.new_middle());
    if beside.len() + fresh > check::MOST_SERVICES || new.len() > MOST_BYTES {
        return None;
    }
    let excerpt = texts.excerpt(new);
    let mut problems = Problems::default();
    let lab = read_with(excerpt.text(), &mut problems, |document, problems| {
        let file = LabFile::of(&excerpt.in_whole(document), problems);
        lower::lower(&file, default_name, &kept, beside, problems)
    });
    let lab = lab.filter(|_| problems.finish().is_none())?;
    let read = head..head + fresh;
    let mut names: Vec<_> = lab.services[read.clone()].iter().map(|service| name(service)).collect();
    names.sort_unstable();
    let mut others = lab.services[..read.start].iter().chain(&lab.services[read.end..head + fresh + tail]);
    let clashes = others.any(|service| names.binary_search(&name(service)).is_ok());
    (!clashes && lab.load_balancer.is_none()).then_some(lab)
}

/// Of most pairs of Services, the lengths say already that they are not called the same.
fn name(service: &Service) -> (usize, &str, &str) {
    let (namespace, name) = (service.namespace.as_str(), service.name.as_str());
    (name.len(), name, namespace)
}

/// The lab with no other Services than these.
fn only(lab: &Lab, services: &[Common<Service>]) -> Lab {
    Lab {
        name: lab.name.clone(),
        cluster: lab.cluster.clone(),
        nodes: lab.nodes.clone(),
        pods: lab.pods.clone(),
        services: services.to_vec(),
        clients: lab.clients.clone(),
        load_balancer: None,
        externals: lab.externals.clone(),
        dns: None,
        probes: Vec::new(),
    }
}

/// A Service whose place in the file is another one.
fn shifted(service: &Common<Service>, by: isize) -> Option<Common<Service>> {
    let mut service = service.clone();
    if by == 0 {
        return Some(service);
    }
    let moved = |at: &Span| Some(at.start.checked_add_signed(by)?..at.end.checked_add_signed(by)?);
    service.at = moved(&service.at)?;
    for port in &mut service.ports {
        port.at = moved(&port.at)?;
    }
    for endpoint in &mut service.endpoints {
        endpoint.at = moved(&endpoint.at)?;
    }
    Some(service)
}

impl Comparison {
    /// `None` if anything but Services is different.
    fn of(old: &str, new: &str) -> Option<Self> {
        let (blocks, fresh) = (blocks(old)?, blocks(new)?);
        let same = |(one, other): &(&Block, &Block)| {
            one.is_service == other.is_service && old[one.at.clone()] == new[other.at.clone()]
        };
        let head = blocks.iter().zip(&fresh).take_while(same).count();
        let rest = (blocks[head..].iter().rev()).zip(fresh[head..].iter().rev());
        let tail = rest.take_while(same).count();
        let texts = Comparison { old: blocks, new: fresh, head, tail };
        let all = |middle: &[Block]| middle.iter().all(|block| block.is_service);
        (all(texts.old_middle()) && all(texts.new_middle())).then_some(texts)
    }

    fn old_middle(&self) -> &[Block] {
        &self.old[self.head..self.old.len() - self.tail]
    }

    fn old_tail(&self) -> &[Block] {
        &self.old[self.old.len() - self.tail..]
    }

    fn new_middle(&self) -> &[Block] {
        &self.new[self.head..self.new.len() - self.tail]
    }

    /// The new text without the Services that are the same.
    fn excerpt(&self, new: &str) -> Excerpt {
        let middle = self.head..self.new.len() - self.tail;
        let mut excerpt = Excerpt::default();
        for (nth, block) in self.new.iter().enumerate() {
            if !block.is_service || middle.contains(&nth) {
                excerpt.add(new, block.at.clone());
            }
        }
        excerpt
    }
}

/// The tables of a text; what comes before the first header is one as well. `None` where a header cannot
/// be told from what is between quotes, or a Service is written in some other way.
fn blocks(text: &str) -> Option<Vec<Block>> {
    let bytes = text.as_bytes();
    let may_be_long = ["\"\"\"", "'''"].into_iter().any(|quotes| memmem::find(bytes, quotes.as_bytes()).is_some());
    if may_be_long {
        return None;
    }
    let mut blocks: Vec<Block> = vec![Block { at: 0..0, is_service: false }];
    for at in memchr_iter(b'[', bytes) {
        let before = text[..at].trim_end_matches([' ', '\t']);
        if !(before.is_empty() || before.ends_with('\n')) {
            continue;
        }
        let header = &text[at + 1..];
        let is_service = match header.strip_prefix("[service]") {
            Some(_) => true,
            None => {
                let first = header.trim_start_matches(['[', ' ', '\t', '"', '\'']);
                let is_part = first.strip_prefix("service").is_some_and(|rest| rest.starts_with('.'));
                match (is_part, blocks.last().is_some_and(|block| block.is_service)) {
                    (true, true) => continue,
                    (true, false) => return None,
                    (false, _) if first.strip_prefix("service").is_some_and(is_end) => return None,
                    (false, _) => false,
                }
            }
        };
        if let Some(last) = blocks.last_mut() {
            last.at.end = at;
        }
        blocks.push(Block { at: at..at, is_service });
    }
    if let Some(last) = blocks.last_mut() {
        last.at.end = text.len();
    }
    Some(blocks)
}

/// A word ends here.
fn is_end(rest: &str) -> bool {
    !rest.starts_with(|character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
}

#[cfg(test)]
mod tests;
