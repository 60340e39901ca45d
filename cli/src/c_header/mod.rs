//! A C header for the value of a segment: the output of `export-c`.
//!
//! It compiles as C11 and as C++17. Each type in Rust that is no scalar is a `struct`
//! with explicit padding, whose size, alignment and offsets the compiler checks.

mod names;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use shm_sync::inspect::{self, Field, Type, Types, Variant};
use shm_sync::{Fingerprint, Layout};

use names::{Names, identifier, member};
pub(crate) use names::{is_free, prefix_of};

/// The size of a mutex without its data in bytes.
const MUTEX: u64 = 64;
/// The size and the alignment of a seat in bytes. A semaphore has one per permit, and
/// two more.
const SEAT: u64 = 64;
/// A longer name of a type is replaced by a number.
const LONGEST_NAME: usize = 60;
/// A longer path is not shown.
const LONGEST_PATH: usize = 200;
/// A longer header is not written. Only a stranger makes a segment that needs one.
const LONGEST_HEADER: usize = 32 << 20;

/// A segment whose value the header describes.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) types: &'a Types,
    /// The address by which other processes find it.
    pub(crate) address: Option<&'a OsStr>,
    /// The name of the value's type, with which all others begin.
    pub(crate) prefix: &'a str,
}

/// The form of a type in C.
#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    /// It has no bytes.
    Nothing,
    /// A scalar: its name in C, and a note.
    Scalar(&'static str, Option<&'static str>),
    /// A type of `shm_sync.h`.
    Library(&'static str),
    /// The type of a field that is all of it, and a note.
    Inner(&'a Field, &'static str),
    Array(&'a Field),
    Slice(&'a Field),
    Struct,
    /// An integer with constants.
    PlainEnum,
    /// An enum with fields.
    TaggedUnion,
    /// An integer of 128 bits.
    Wide {
        is_signed: bool,
    },
    /// An object that functions of `shm_sync.h` use by its description.
    Described(Description<'a>),
    /// Bytes that C programs do not use.
    Opaque,
}

/// What a program says about an object, so that `shm_sync.h` can use it.
#[derive(Clone, Copy, Debug)]
enum Description<'a> {
    Semaphore {
        permits: u64,
    },
    Pipe {
        capacity: u64,
    },
    Channel {
        message: &'a Type,
        capacity: u64,
        senders: u64,
        receivers: u64,
    },
}

impl<'a> Description<'a> {
    /// Returns `None` if C programs can't use the object.
    fn of(of: &'a Type, types: &'a Types) -> Option<Self> {
        // No object has more fields.
        let inside = |of: &'a Type, name: &str| {
            let mut fields = of.fields.iter().take(16);
            let field = fields.find(|field| field.name == name)?;
            types.type_of(field)
        };
        // An array, as the type of its elements and its length.
        let array = |of: &'a Type| match (of.kind.as_str(), &of.fields[..]) {
            ("array", [element]) => Some((types.type_of(element)?, element.offset)),
            _ => None,
        };
        match of.kind.as_str() {
            "ShmSemaphore" => {
                let permits = (of.size / SEAT).checked_sub(2)?;
                let is_known = permits > 0 && (of.size % SEAT, of.align) == (0, SEAT);
                is_known.then_some(Self::Semaphore { permits })
            }
            "ShmPipe" => {
                let slots = inside(inside(of, "channel")?, "slots")?;
                let capacity = array(slots)?.1;
                Some(Self::Pipe { capacity })
            }
            "ShmChannel" => {
                let ends = |side| Some(array(inside(inside(of, side)?, "seats")?)?.1);
                let (message, capacity) = array(inside(of, "slots")?)?;
                Some(Self::Channel {
                    message,
                    capacity,
                    senders: ends("senders")?,
                    receivers: ends("receivers")?,
                })
            }
            _ => None,
        }
    }

    /// Returns the call that makes the description of the object `in`.
    fn call(self) -> String {
        match self {
            Self::Semaphore { permits } => format!("shm_sync_semaphore_at(in, {permits}u)"),
            Self::Pipe { capacity } => format!("shm_sync_pipe_at(in, {capacity}u)"),
            Self::Channel {
                message,
                capacity,
                senders,
                receivers,
            } => format!(
                "shm_sync_channel_at(\n        in, {}u, {}u, {capacity}u, {senders}u, {receivers}u)",
                message.size, message.align
            ),
        }
    }
}

impl<'a> Shape<'a> {
    fn of(of: &'a Type, types: &'a Types) -> Self {
        let size_of = |field: &Field| types.type_of(field).map(|of| of.size);
        if let Some((name, size, note)) = scalar(&of.kind) {
            let is_natural = of.size == size && of.align == size;
            return if is_natural {
                Self::Scalar(name, note)
            } else {
                Self::Opaque
            };
        }
        match (of.kind.as_str(), &of.fields[..]) {
            ("slice", [element]) => Self::Slice(element),
            _ if of.size == 0 && !of.is_variable() => Self::Nothing,
            ("array", [element]) => Self::Array(element),
            ("u128", _) if of.size == 16 => Self::Wide { is_signed: false },
            ("i128", _) if of.size == 16 => Self::Wide { is_signed: true },
            ("NonZero", [inner]) if size_of(inner) == Some(of.size) => {
                Self::Inner(inner, "NonZero: never 0")
            }
            ("MaybeUninit", [inner]) if size_of(inner) == Some(of.size) => {
                Self::Inner(inner, "MaybeUninit: any bytes")
            }
            ("ShmCondvar", []) if (of.size, of.align) == (16, 8) => {
                Self::Library("shm_sync_condvar")
            }
            ("ShmEvent", []) if (of.size, of.align) == (24, 8) => Self::Library("shm_sync_event"),
            ("enum", [tag]) => {
                let is_plain = of.variants.iter().all(|variant| variant.fields.is_empty());
                let is_scalar = types
                    .type_of(tag)
                    .is_some_and(|tag| scalar(&tag.kind).is_some() && tag.size == of.size);
                if is_plain && is_scalar {
                    Self::PlainEnum
                } else {
                    Self::TaggedUnion
                }
            }
            (
                "struct" | "tuple" | "CachePadded" | "ShmString" | "ShmVec" | "ShmOption"
                | "with tail" | "ShmMutex",
                _,
            ) => Self::Struct,
            _ => Description::of(of, types).map_or(Self::Opaque, Self::Described),
        }
    }

    /// Returns whether the header defines a type of its own for it.
    fn has_name(self) -> bool {
        matches!(
            self,
            Self::Struct
                | Self::PlainEnum
                | Self::TaggedUnion
                | Self::Wide { .. }
                | Self::Described(_)
                | Self::Opaque
        )
    }
}

/// Returns the name in C, the size and a note for a scalar type.
fn scalar(kind: &str) -> Option<(&'static str, u64, Option<&'static str>)> {
    const ATOMIC: Option<&str> = Some("atomic: access it by __atomic_load_n and its like");
    let (kind, note) = match kind.strip_prefix("Atomic") {
        Some("Bool") => ("bool", ATOMIC),
        Some("U8") => ("u8", ATOMIC),
        Some("U16") => ("u16", ATOMIC),
        Some("U32") => ("u32", ATOMIC),
        Some("U64") => ("u64", ATOMIC),
        Some("Usize") => ("usize", ATOMIC),
        Some("I8") => ("i8", ATOMIC),
        Some("I16") => ("i16", ATOMIC),
        Some("I32") => ("i32", ATOMIC),
        Some("I64") => ("i64", ATOMIC),
        Some("Isize") => ("isize", ATOMIC),
        _ => (kind, None),
    };
    let (name, size) = match kind {
        "u8" => ("uint8_t", 1),
        "u16" => ("uint16_t", 2),
        "u32" => ("uint32_t", 4),
        "u64" | "usize" => ("uint64_t", 8),
        "i8" => ("int8_t", 1),
        "i16" => ("int16_t", 2),
        "i32" => ("int32_t", 4),
        "i64" | "isize" => ("int64_t", 8),
        "f32" => ("float", 4),
        "f64" => ("double", 8),
        "bool" => return Some(("bool", 1, note.or(Some("0 or 1")))),
        "char" => return Some(("uint32_t", 4, Some("char: a Unicode scalar value"))),
        _ => return None,
    };
    Some((name, size, note))
}

/// A declaration without its name: `uint8_t …[3]`.
#[derive(Clone, Debug)]
struct Declaration {
    base: String,
    dimensions: String,
    notes: Vec<&'static str>,
}

/// A member of a struct or a union.
#[derive(Debug)]
struct Member {
    name: String,
    declaration: Declaration,
    offset: u64,
    size: u64,
    align: u64,
}

/// The name of a type in C, and a path to it.
#[derive(Debug)]
struct Named {
    name: String,
    path: String,
}

/// Why there is no header for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// The value has no bytes.
    NoBytes,
    /// The header would be too long.
    TooLong,
}

/// Returns the header.
pub(crate) fn header(source: &Source<'_>) -> Result<String, NoHeader> {
    let mut header = Header::new(source);
    header.name_all();
    header.write_all()
}

struct Header<'a> {
    source: &'a Source<'a>,
    types: &'a Types,
    /// The names at file scope.
    names: Names,
    /// Those of them that are types. In C++, a member can't have one of these names and
    /// be of that type.
    type_names: Rc<Names>,
    named: HashMap<Fingerprint, Named>,
    /// The structs of the variants of an enum.
    variants: HashMap<Fingerprint, Vec<String>>,
    declarations: HashMap<Fingerprint, Option<Declaration>>,
    text: String,
}

impl<'a> Header<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        let mut names = Names::at_file_scope(None);
        for suffix in ["_H", "_FINGERPRINT", "_ADDRESS"] {
            names.add(&format!("{}{suffix}", source.prefix.to_ascii_uppercase()));
        }
        Self {
            source,
            types: source.types,
            names,
            type_names: Rc::default(),
            named: HashMap::new(),
            variants: HashMap::new(),
            declarations: HashMap::new(),
            text: String::new(),
        }
    }

    fn shape(&self, of: &'a Type) -> Shape<'a> {
        Shape::of(of, self.types)
    }

    /// Gives each type that the header defines a name, after the shortest path to it.
    fn name_all(&mut self) {
        let root = self.types.root();
        let prefix = self.source.prefix.to_owned();
        let mut seen = HashSet::new();
        let mut queue = VecDeque::new();
        let first = match self.shape(root) {
            Shape::Slice(element) => self.types.type_of(element).unwrap_or(root),
            _ => root,
        };
        if self.shape(first).has_name() {
            queue.push_back((root, prefix, String::new()));
        } else {
            // The prefix is the name of the whole.
            self.names.add(&prefix);
            queue.push_back((root, format!("{prefix}_element"), String::new()));
        }
        while let Some((of, wanted, path)) = queue.pop_front() {
            if !seen.insert(of.fingerprint) {
                continue;
            }
            let shape = self.shape(of);
            let (mut name, mut path) = (wanted, path);
            if name.len() > LONGEST_NAME + self.source.prefix.len() {
                name = format!("{}_type_{}", self.source.prefix, seen.len());
            }
            if path.len() > LONGEST_PATH {
                path = "…".to_owned();
            }
            if shape.has_name() {
                name = self.names.add(&name);
                let named = Named {
                    name: name.clone(),
                    path: path.clone(),
                };
                self.named.insert(of.fingerprint, named);
            }
            let mut add = |field: &'a Field, name: String, path: String| {
                if let Some(of) = self.types.type_of(field) {
                    queue.push_back((of, name, path));
                }
            };
            match shape {
                Shape::Array(element) | Shape::Slice(element) => {
                    add(element, name, format!("{path}[]"));
                }
                Shape::Inner(inner, _) => add(inner, name, path),
                Shape::Described(Description::Channel { message, .. }) => {
                    let path = match path.as_str() {
                        "" => "a message".to_owned(),
                        _ => format!("a message of {path}"),
                    };
                    queue.push_back((message, format!("{name}_message"), path));
                }
                Shape::Struct | Shape::TaggedUnion => {
                    for field in &of.fields {
                        let path = match of.kind.as_str() {
                            "CachePadded" => path.clone(),
                            _ => format!("{path}.{}", field.name),
                        };
                        let part = match shape {
                            Shape::Struct => identifier(&field.name),
                            _ => "tag".to_owned(),
                        };
                        add(field, format!("{name}_{part}"), path);
                    }
                    let mut structs = Vec::new();
                    for variant in &of.variants {
                        let mut part = identifier(&variant.name);
                        if part.len() > LONGEST_NAME {
                            part = format!("variant_{}", structs.len());
                        }
                        let part = self.names.add(&format!("{name}_{part}"));
                        for field in &variant.fields {
                            let name = format!("{part}_{}", identifier(&field.name));
                            add(field, name, path.clone());
                        }
                        structs.push(part);
                    }
                    self.variants.insert(of.fingerprint, structs);
                }
                _ => {}
            }
        }
        self.type_names = Rc::new(std::mem::take(&mut self.names));
        self.names = Names::at_file_scope(Some(Rc::clone(&self.type_names)));
        // The types of the fields come first, so that this does not recurse.
        for of in self.types.all() {
            let declaration = self.declare(of);
            self.declarations.insert(of.fingerprint, declaration);
        }
    }

    fn write_all(mut self) -> Result<String, NoHeader> {
        let Source {
            layout,
            types,
            address,
            prefix,
        } = self.source;
        let root = types.root();
        let upper = prefix.to_ascii_uppercase();
        let type_name = comment(&layout.type_name);
        let _ = write!(
            self.text,
            "/* The value of a segment of shm-sync, whose type in Rust is\n \
             * {type_name}\n \
             * `shm-sync export-c` has made this file. Make it again when the type changes. */\n\n\
             #ifndef {upper}_H\n#define {upper}_H\n\n\
             #include <assert.h>\n#include <stdalign.h>\n#include <stdbool.h>\n\
             #include <stddef.h>\n#include <stdint.h>\n\n#include \"shm_sync.h\"\n\n\
             /* shm_sync_open compares it with that of the segment. */\n\
             #define {upper}_FINGERPRINT \"{}\"\n",
            root.fingerprint
        );
        if let Some(address) = address {
            let _ = writeln!(
                self.text,
                "#define {upper}_ADDRESS {}",
                literal(address.as_bytes())
            );
        }
        for of in types.all() {
            self.write_type(of);
            if self.text.len() > LONGEST_HEADER {
                return Err(NoHeader::TooLong);
            }
        }
        match self.shape(root) {
            Shape::Slice(element) => {
                let element = types.type_of(element).ok_or(NoHeader::NoBytes)?;
                let declaration = self.declaration(element).ok_or(NoHeader::NoBytes)?;
                if declaration.base != *prefix || !declaration.dimensions.is_empty() {
                    self.write_alias(prefix, &declaration, element);
                }
                self.write_comment(&format!(
                    "The value is an array of {prefix}. `len` of the segment is their number."
                ));
            }
            shape if shape.has_name() => {}
            _ => {
                let declaration = self.declaration(root).ok_or(NoHeader::NoBytes)?;
                self.write_alias(prefix, &declaration, root);
            }
        }
        if root.is_variable() && !matches!(self.shape(root), Shape::Slice(_)) {
            self.write_comment("`len` of the segment is the number of elements at the end.");
        }
        let _ = write!(self.text, "\n#endif /* {upper}_H */\n");
        Ok(self.text)
    }

    fn write_comment(&mut self, text: &str) {
        let _ = write!(self.text, "\n/* {} */\n", comment(text));
    }

    /// Writes a type definition that is another name of a type.
    fn write_alias(&mut self, name: &str, declaration: &Declaration, of: &Type) {
        let Declaration {
            base,
            dimensions,
            notes,
        } = declaration;
        let notes = notes_of(notes);
        let _ = write!(self.text, "\ntypedef {base} {name}{dimensions};{notes}\n");
        self.assert_layout(name, Some(of.size), of.align);
    }

    fn assert_layout(&mut self, name: &str, size: Option<u64>, align: u64) {
        if let Some(size) = size {
            let _ = writeln!(
                self.text,
                "static_assert(sizeof({name}) == {size}, \"the size of {name}\");"
            );
        }
        let _ = writeln!(
            self.text,
            "static_assert(alignof({name}) == {align}, \"the alignment of {name}\");"
        );
    }

    /// Returns the declaration of a value of this type, or `None` if it has no bytes or
    /// is a slice.
    fn declaration(&self, of: &Type) -> Option<Declaration> {
        self.declarations.get(&of.fingerprint)?.clone()
    }

    /// Makes the [`declaration`](Self::declaration), from those of the types of the
    /// fields.
    fn declare(&self, of: &'a Type) -> Option<Declaration> {
        let plain = |base: &str| Declaration {
            base: base.to_owned(),
            dimensions: String::new(),
            notes: Vec::new(),
        };
        Some(match self.shape(of) {
            Shape::Nothing | Shape::Slice(_) => return None,
            Shape::Scalar(name, note) => Declaration {
                notes: note.into_iter().collect(),
                ..plain(name)
            },
            Shape::Library(name) => plain(name),
            Shape::Inner(inner, note) => {
                let mut inner = self.declaration(self.types.type_of(inner)?)?;
                inner.notes.insert(0, note);
                inner
            }
            Shape::Array(element) => {
                let mut inner = self.declaration(self.types.type_of(element)?)?;
                inner.dimensions = format!("[{}]{}", element.offset, inner.dimensions);
                inner
            }
            _ => plain(&self.named.get(&of.fingerprint)?.name),
        })
    }

    /// Writes the definition of a type, if it has one.
    fn write_type(&mut self, of: &'a Type) {
        let Some(Named { name, path }) = self.named.get(&of.fingerprint) else {
            return;
        };
        let (name, path) = (name.clone(), path.clone());
        match self.shape(of) {
            Shape::Struct => self.write_struct(of, &name, &path),
            Shape::PlainEnum => self.write_plain_enum(of, &name),
            Shape::TaggedUnion => self.write_tagged_union(of, &name, &path),
            Shape::Wide { is_signed } => self.write_wide(of, &name, is_signed),
            Shape::Described(description) => self.write_described(of, &name, &path, description),
            _ => self.write_opaque(of, &name, &path, "C programs can't use it"),
        }
    }

    /// Returns the members for fields, and a remark for each field that is none. Each
    /// name differs from those in `names`.
    fn members(&self, fields: &'a [Field], names: &mut Names) -> (Vec<Member>, Vec<String>) {
        let mut members = Vec::new();
        let mut remarks = Vec::new();
        for field in fields {
            let Some(of) = self.types.type_of(field) else {
                continue;
            };
            match self.declaration(of) {
                Some(declaration) if !of.is_variable() => members.push(Member {
                    name: names.add(&member(&field.name)),
                    declaration,
                    offset: field.offset,
                    size: of.size,
                    align: of.align,
                }),
                _ if of.is_variable() => {}
                _ => remarks.push(format!("{}: {}, without bytes", field.name, of.kind)),
            }
        }
        members.sort_by_key(|member| member.offset);
        (members, remarks)
    }

    /// Returns an empty set of names for members.
    fn member_names(&self) -> Names {
        Names::inside(Rc::clone(&self.type_names))
    }

    fn write_struct(&mut self, of: &'a Type, name: &str, path: &str) {
        let mut names = self.member_names();
        let mut lock = None;
        if of.kind == "ShmMutex" {
            lock = Some(Member {
                name: names.add("lock"),
                declaration: Declaration {
                    base: "shm_sync_mutex".to_owned(),
                    dimensions: String::new(),
                    notes: Vec::new(),
                },
                offset: 0,
                size: MUTEX,
                align: 8,
            });
        }
        let (mut members, remarks) = self.members(&of.fields, &mut names);
        if let Some(lock) = lock {
            members.insert(0, lock);
        }
        let size = (!of.is_variable()).then_some(of.size);
        let Some(lines) = lines_of(&members, size, of.align, &mut names) else {
            return self.write_opaque(of, name, path, "its fields overlap");
        };
        self.write_head(of, path, &remarks);
        let _ = write!(self.text, "typedef struct {name} {{\n{lines}}} {name};\n");
        self.assert_layout(name, size, of.align);
        self.assert_offsets(name, &members);
        if of.is_variable() {
            self.write_accessor(of, name);
        }
    }

    /// Writes the comment before a definition.
    fn write_head(&mut self, of: &Type, path: &str, remarks: &[String]) {
        let place = match path {
            "" => "the value".to_owned(),
            path => path.to_owned(),
        };
        let mut text = format!("{place}: {}", of.kind);
        for remark in remarks {
            let _ = write!(text, "; {remark}");
        }
        self.write_comment(&text);
    }

    fn assert_offsets(&mut self, name: &str, members: &[Member]) {
        for Member {
            name: member,
            offset,
            ..
        } in members
        {
            let _ = writeln!(
                self.text,
                "static_assert(offsetof({name}, {member}) == {offset}, \
                 \"the offset of {member} in {name}\");"
            );
        }
    }

    /// Writes a function that returns the part of variable length after a struct.
    fn write_accessor(&mut self, of: &'a Type, name: &str) {
        let Some(last) = of.fields.last() else {
            return;
        };
        let Some(inner) = self.types.type_of(last) else {
            return;
        };
        let element = match self.shape(inner) {
            Shape::Slice(element) => self.types.type_of(element),
            _ => Some(inner),
        };
        let function = self
            .names
            .add(&format!("{name}_get_{}", identifier(&last.name)));
        let declared = element.and_then(|element| Some((self.declaration(element)?, element)));
        let Some((declaration, element)) = declared else {
            return self.write_comment(&format!("{function}: elements without bytes"));
        };
        let mut base = declaration.base.clone();
        if !declaration.dimensions.is_empty() {
            base = self.names.add(&format!("{function}_element"));
            self.write_alias(&base.clone(), &declaration, element);
        }
        let offset = last.offset;
        let _ = write!(
            self.text,
            "static inline {base} *{function}({name} *in) {{\n    \
             return ({base} *)(void *)((unsigned char *)in + {offset});\n}}\n"
        );
    }

    fn write_plain_enum(&mut self, of: &'a Type, name: &str) {
        let tag = of.fields.first().and_then(|tag| self.types.type_of(tag));
        let declared = tag.and_then(|tag| self.declaration(tag));
        let Some(declaration) = declared else {
            return;
        };
        self.write_alias(name, &declaration, of);
        let constants = of.variants.iter().map(|variant| {
            let constant = format!("{name}_{}", identifier(&variant.name));
            (constant, variant)
        });
        let constants: Vec<_> = constants.collect();
        self.write_constants(&constants, &declaration.base);
    }

    /// Writes constants for discriminants of the type `base`.
    fn write_constants(&mut self, constants: &[(String, &Variant)], base: &str) {
        for (wanted, variant) in constants {
            let name = self.names.add(wanted);
            let number = variant.discriminant;
            if i32::try_from(number).is_ok() {
                let _ = writeln!(self.text, "enum {{ {name} = {number} }};");
            } else if i128::from(i64::MIN) == number {
                let _ = writeln!(self.text, "#define {name} (-INT64_C({}) - 1)", i64::MAX);
            } else {
                let make = match base {
                    "int64_t" => "INT64_C",
                    _ => "UINT64_C",
                };
                let _ = writeln!(self.text, "#define {name} (({base}){make}({number}))");
            }
        }
    }

    fn write_tagged_union(&mut self, of: &'a Type, name: &str, path: &str) {
        let mut names = self.member_names();
        let tag = of.fields.first().and_then(|tag| self.types.type_of(tag));
        let declared = tag.and_then(|tag| Some((self.declaration(tag)?, tag)));
        let Some((tag_declaration, tag)) = declared else {
            return self.write_opaque(of, name, path, "its tag has no bytes");
        };
        let tag_member = |name: &mut Names| Member {
            name: name.add("tag"),
            declaration: tag_declaration.clone(),
            offset: 0,
            size: tag.size,
            align: tag.align,
        };
        let structs = self.variants.get(&of.fingerprint);
        let structs = structs.cloned().unwrap_or_default();
        let mut variants = Vec::new();
        for (variant, struct_name) in of.variants.iter().zip(structs) {
            let mut names = self.member_names();
            let mut members = vec![tag_member(&mut names)];
            let (fields, remarks) = self.members(&variant.fields, &mut names);
            if fields.is_empty() {
                continue;
            }
            members.extend(fields);
            let align = members.iter().map(|member| member.align).max().unwrap_or(1);
            let Some(lines) = lines_of(&members, None, align, &mut names) else {
                return self.write_opaque(of, name, path, "its fields overlap");
            };
            let end = members.last().map_or(0, |last| last.offset + last.size);
            variants.push((variant, struct_name, members, lines, remarks, end, align));
        }
        let constants: Vec<_> = of
            .variants
            .iter()
            .map(|variant| (format!("{name}_{}_tag", identifier(&variant.name)), variant))
            .collect();
        for (variant, struct_name, members, lines, remarks, ..) in &variants {
            let place = format!("{path} as {}", variant.name);
            self.write_head(of, &place, remarks);
            let _ = write!(
                self.text,
                "typedef struct {struct_name} {{\n{lines}}} {struct_name};\n"
            );
            self.assert_offsets(struct_name, members);
        }
        self.write_head(of, path, &[]);
        let widest = variants.iter().map(|(.., align)| *align);
        let natural = widest.fold(tag.align, u64::max);
        let largest = variants.iter().map(|(.., end, _)| *end);
        let size = largest.fold(tag.size, u64::max);
        let tag_name = names.add("tag");
        let aligned = aligned_if(natural < of.align, of.align);
        let Declaration {
            base, dimensions, ..
        } = &tag_declaration;
        let mut lines = format!("    {aligned}{base} {tag_name}{dimensions};\n");
        for (variant, struct_name, ..) in &variants {
            let member = names.add(&member(&variant.name));
            let _ = writeln!(lines, "    {struct_name} {member};");
        }
        if size.next_multiple_of(of.align) != of.size {
            let member = names.add("bytes");
            let _ = writeln!(lines, "    unsigned char {member}[{}];", of.size);
        }
        let _ = write!(self.text, "typedef union {name} {{\n{lines}}} {name};\n");
        self.assert_layout(name, Some(of.size), of.align);
        match self.shape(tag) {
            Shape::Wide { .. } => {}
            _ => self.write_constants(&constants, &tag_declaration.base),
        }
    }

    fn write_wide(&mut self, of: &Type, name: &str, is_signed: bool) {
        let high = if is_signed { "int64_t" } else { "uint64_t" };
        let mut words = [("uint64_t", "low"), (high, "high")];
        if self.source.layout.abi.endianness != 1 {
            words.reverse();
        }
        let [(first, one), (second, two)] = words;
        let aligned = aligned_if(of.align != 8, of.align);
        let _ = write!(
            self.text,
            "\n/* {}: two halves */\ntypedef struct {name} {{\n    {aligned}{first} {one};\n    \
             {second} {two};\n}} {name};\n",
            comment(&of.kind)
        );
        self.assert_layout(name, Some(of.size), of.align);
    }

    /// Writes an object, and a function that describes it for `shm_sync.h`.
    fn write_described(&mut self, of: &Type, name: &str, path: &str, description: Description<'_>) {
        let function = self.names.add(&format!("{name}_object"));
        let mut remark = match description {
            Description::Semaphore { permits } => format!("{permits} permits"),
            Description::Pipe { capacity } => format!("{capacity} bytes"),
            Description::Channel {
                message, capacity, ..
            } => match self.declaration(message) {
                Some(Declaration {
                    base, dimensions, ..
                }) => format!("{capacity} messages {base}{dimensions}"),
                None => format!("{capacity} messages without bytes"),
            },
        };
        let _ = write!(remark, "; {function} describes it");
        self.write_opaque(of, name, path, &remark);
        let call = description.call();
        let _ = write!(
            self.text,
            "static inline shm_sync_object {function}({name} *in) {{\n    return {call};\n}}\n"
        );
    }

    fn write_opaque(&mut self, of: &Type, name: &str, path: &str, remark: &str) {
        self.write_head(of, path, &[remark.to_owned()]);
        let aligned = aligned_if(of.align > 1, of.align);
        let size = of.size.max(1);
        let _ = write!(
            self.text,
            "typedef struct {name} {{\n    {aligned}unsigned char bytes[{size}];\n}} {name};\n"
        );
        self.assert_layout(name, (of.size > 0).then_some(of.size), of.align);
    }
}

/// Returns the lines of a struct with these members, sorted by offset, and with padding
/// between them. Returns `None` if they overlap. Without a size, no padding follows the
/// last one.
fn lines_of(
    members: &[Member],
    size: Option<u64>,
    align: u64,
    names: &mut Names,
) -> Option<String> {
    let natural = members.iter().map(|member| member.align).max().unwrap_or(1);
    let mut aligned = aligned_if(natural < align, align);
    let mut lines = String::new();
    let mut end = 0;
    let mut add_padding = |lines: &mut String, aligned: &mut String, count: u64| {
        if count > 0 {
            let name = names.add("padding");
            let aligned = std::mem::take(aligned);
            let _ = writeln!(lines, "    {aligned}unsigned char {name}[{count}];");
        }
    };
    for member in members {
        let gap = member.offset.checked_sub(end)?;
        add_padding(&mut lines, &mut aligned, gap);
        let Declaration {
            base,
            dimensions,
            notes,
        } = &member.declaration;
        let (aligned, notes) = (std::mem::take(&mut aligned), notes_of(notes));
        let _ = writeln!(
            lines,
            "    {aligned}{base} {}{dimensions};{notes}",
            member.name
        );
        end = member.offset.checked_add(member.size)?;
    }
    let padding = match size {
        Some(size) => size.checked_sub(end)?,
        // A struct has a member.
        None => u64::from(members.is_empty()),
    };
    add_padding(&mut lines, &mut aligned, padding);
    Some(lines)
}

fn aligned_if(condition: bool, align: u64) -> String {
    match condition {
        true => format!("alignas({align}) "),
        false => String::new(),
    }
}

fn notes_of(notes: &[&str]) -> String {
    match notes {
        [] => String::new(),
        notes => format!(" /* {} */", notes.join(", ")),
    }
}

/// Returns a text that can't end a comment.
fn comment(text: &str) -> String {
    let text = inspect::printable(text);
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// Returns bytes as a string literal.
fn literal(bytes: &[u8]) -> String {
    let mut text = "\"".to_owned();
    for byte in bytes {
        match byte {
            b'"' | b'\\' | b'?' => {
                let _ = write!(text, "\\{}", char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text + "\""
}
