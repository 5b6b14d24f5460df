use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One file's use of another, with an example.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) line: usize,
    pub(super) example: String,
}

/// The files of a crate, with the first arrow between any two of them.
#[derive(Debug)]
pub(super) struct Graph {
    arrows: BTreeMap<usize, BTreeMap<usize, Arrow>>,
}

/// A shortest circle, and all files that are in a circle with its files.
#[derive(Debug)]
pub(super) struct Circle {
    pub(super) arrows: Vec<Arrow>,
    pub(super) members: Vec<usize>,
}

impl Graph {
    pub(super) fn new() -> Self {
        Self { arrows: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, arrow: Arrow) {
        if arrow.from != arrow.to {
            self.arrows.entry(arrow.from).or_default().entry(arrow.to).or_insert(arrow);
        }
    }

    /// Returns one circle for each group of files that reach each other.
    pub(super) fn circles(&self) -> Vec<Circle> {
        let reached: BTreeMap<usize, BTreeSet<usize>> =
            self.arrows.keys().map(|start| (*start, self.reached_from(*start))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (start, targets) in &reached {
            if seen.contains(start) || !targets.contains(start) {
                continue;
            }
            let is_member = |other: &&usize| reached.get(other).is_some_and(|back| back.contains(start));
            let members: Vec<usize> = targets.iter().filter(is_member).copied().collect();
            seen.extend(members.iter().copied());
            let shortest =
                members.iter().filter_map(|member| self.circle_through(*member)).min_by_key(Vec::len);
            circles.extend(shortest.map(|arrows| Circle { arrows, members }));
        }
        circles
    }

    fn of(&self, file: usize) -> impl Iterator<Item = &Arrow> {
        self.arrows.get(&file).into_iter().flat_map(BTreeMap::values)
    }

    fn reached_from(&self, start: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            open.extend(self.of(file).map(|arrow| arrow.to).filter(|to| reached.insert(*to)));
        }
        reached
    }

    /// Returns the shortest path from a file back to itself.
    fn circle_through(&self, start: usize) -> Option<Vec<Arrow>> {
        let mut came_by: BTreeMap<usize, &Arrow> = BTreeMap::new();
        let mut open = VecDeque::from([start]);
        while let Some(file) = open.pop_front() {
            for arrow in self.of(file) {
                if came_by.contains_key(&arrow.to) {
                    continue;
                }
                came_by.insert(arrow.to, arrow);
                if arrow.to == start {
                    return Some(way_back(start, &came_by));
                }
                open.push_back(arrow.to);
            }
        }
        None
    }
}

fn way_back(start: usize, came_by: &BTreeMap<usize, &Arrow>) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    let mut file = start;
    while let Some(arrow) = came_by.get(&file) {
        arrows.push((*arrow).clone());
        file = arrow.from;
        if file == start {
            break;
        }
    }
    arrows.reverse();
    arrows
}
