//! The lines of a table: lists of known values, headers, and rows by column.

use std::collections::BTreeMap;

use crate::custodian::policy::Problem;

/// What a cell tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Who,
    Action,
    Key,
    Labels,
    Reason,
    From,
    At,
    Bucket,
    Purpose,
    Writer,
    Behalf,
    Granted,
    Expect,
}

impl Column {
    const NAMED: [(&'static str, Self); 13] = [
        ("who", Self::Who),
        ("action", Self::Action),
        ("key", Self::Key),
        ("labels", Self::Labels),
        ("reason", Self::Reason),
        ("from", Self::From),
        ("at", Self::At),
        ("bucket", Self::Bucket),
        ("purpose", Self::Purpose),
        ("writer", Self::Writer),
        ("behalf", Self::Behalf),
        ("granted", Self::Granted),
        ("expect", Self::Expect),
    ];

    /// The columns whose known values are listed, by the name of the list.
    const LISTS: [(&'static str, Self); 6] = [
        ("principals:", Self::Who),
        ("keys:", Self::Key),
        ("sources:", Self::From),
        ("times:", Self::At),
        ("buckets:", Self::Bucket),
        ("clients:", Self::Behalf),
    ];

    fn named(text: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(name, _)| *name == text).map(|(_, column)| column)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMED.into_iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }
}

/// A value of a list. The words of its line are: for principals, a short name (not always) and the id; for keys, the name and labels;
/// for others, the value.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) value: String,
    /// The short name of a principal.
    pub(super) alias: Option<String>,
    /// The labels of a key.
    pub(super) labels: String,
}

/// A row's cells that are not empty.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) text: &'a str,
    pub(super) cells: BTreeMap<Column, &'a str>,
}

#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    pub(super) known: BTreeMap<Column, Vec<Known>>,
    pub(super) lines: Vec<Line<'a>>,
}

/// Sorts the lines of `text`. What is wrong with one does not hide what is wrong with others.
pub(super) fn table(text: &str) -> (Table<'_>, Vec<Problem>) {
    let (mut table, mut problems) = (Table::default(), Vec::new());
    let (mut list, mut header) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let (indented, trimmed) = (line.starts_with([' ', '\t']), line.trim());
        let done = if trimmed.is_empty() {
            Ok(())
        } else if let Some((_, column)) = Column::LISTS.into_iter().find(|(name, _)| *name == trimmed) {
            list = Some(column);
            Ok(())
        } else if trimmed.contains('|') {
            list = None;
            table.row(index + 1, trimmed, &mut header)
        } else if let (Some(column), true) = (list, indented) {
            table.list(column, trimmed)
        } else {
            Err("neither a list such as 'principals:', an indented line of one, nor cells between '|'".to_owned())
        };
        problems.extend(done.err().map(|what| Problem::new(Some(index + 1), what)));
    }
    (table, problems)
}

impl<'a> Table<'a> {
    fn list(&mut self, column: Column, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let known = match (column, &words[..]) {
            (Column::Key, [name, labels @ ..]) => (*name, None, labels.join(" ")),
            (_, [value]) => (*value, None, String::new()),
            (Column::Who, [alias, id]) => (*id, Some((*alias).to_owned()), String::new()),
            _ => return Err("one value a line".to_owned()),
        };
        let (value, alias, labels) = known;
        let values = self.known.entry(column).or_default();
        let names = |known: &Known| [Some(known.value.clone()), known.alias.clone()].into_iter().flatten();
        let known = Known { value: value.to_owned(), alias, labels };
        if values.iter().flat_map(names).any(|taken| names(&known).any(|name| name == taken)) {
            return Err("the list has this already".to_owned());
        }
        values.push(known);
        Ok(())
    }

    fn row(&mut self, number: usize, text: &'a str, header: &mut Option<Vec<Column>>) -> Result<(), String> {
        let cells: Vec<&str> = text.split('|').map(str::trim).collect();
        if header.is_none() || cells.contains(&Column::Expect.name()) {
            // What follows would be misread under another header.
            *header = Some(Vec::new());
            *header = Some(columns(&cells)?);
            return Ok(());
        }
        match header.as_deref() {
            // The header was wrong, and that was told.
            None | Some([]) => Ok(()),
            Some(columns) if columns.len() != cells.len() => {
                Err(format!("{} cells under a header of {}", cells.len(), columns.len()))
            }
            Some(columns) => {
                let cells = columns.iter().copied().zip(cells).filter(|(_, cell)| !cell.is_empty() && *cell != "-");
                self.lines.push(Line { number, text, cells: cells.collect() });
                Ok(())
            }
        }
    }
}

fn columns(cells: &[&str]) -> Result<Vec<Column>, String> {
    let known = || Column::NAMED.map(|(name, _)| name).join(", ");
    let unknown = |cell: &&str| format!("no column is called '{cell}'; there are {}", known());
    let columns: Vec<Column> =
        cells.iter().map(|cell| Column::named(cell).ok_or_else(|| unknown(cell))).collect::<Result<_, _>>()?;
    let mut sorted = columns.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() != columns.len() {
        return Err("a column stands twice in the header".to_owned());
    }
    match [Column::Who, Column::Action, Column::Expect].into_iter().find(|needed| !columns.contains(needed)) {
        Some(missing) => Err(format!("the header has no column '{}'", missing.name())),
        None => Ok(columns),
    }
}
