//! Checks the input of the derive macro, and reports what is wrong with it.

use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Path, Result, Type,
    parse_quote,
};

/// A type that is `ShmSafe` if its fields are.
pub(crate) struct Input<'a> {
    pub(crate) derive: &'a DeriveInput,
    /// The path of the crate `shm_sync`.
    pub(crate) krate: Path,
    pub(crate) shape: Shape<'a>,
}

/// The kind of the type.
pub(crate) enum Shape<'a> {
    /// A struct with a fixed layout.
    Struct(&'a Fields),
    /// An enum with a fixed layout.
    Enum(&'a syn::DataEnum, EnumRepr),
}

/// The layout of an enum.
pub(crate) struct EnumRepr {
    /// The name of the discriminant's type.
    pub(crate) discriminant: Ident,
    /// `true` if the repr contains `C`. With `C`, the fields of all variants begin at
    /// the same offset. Without it, those of each variant begin at the first aligned
    /// offset after the discriminant.
    pub(crate) is_c: bool,
}

impl<'a> Input<'a> {
    /// Checks the type, and reports all errors at once.
    pub(crate) fn check(derive: &'a DeriveInput) -> Result<Self> {
        let mut errors = Vec::new();
        for lifetime in derive.generics.lifetimes() {
            errors.push(Error::new_spanned(
                lifetime,
                "a type with a lifetime can't be ShmSafe: it borrows from one process",
            ));
        }
        for field in fields_of(&derive.data) {
            check_field(&field.ty, &mut errors);
        }
        let krate = crate_path(&derive.attrs).map_err(|error| errors.push(error));
        let shape = Shape::of(derive).map_err(|error| errors.push(error));
        if let (Ok(krate), Ok(shape), []) = (krate, shape, &errors[..]) {
            return Ok(Self {
                derive,
                krate,
                shape,
            });
        }
        let all = errors.into_iter().reduce(|mut all, error| {
            all.combine(error);
            all
        });
        Err(all.expect("there are a path and a shape if there are no errors"))
    }

    /// Returns all fields, those of all variants included.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'a Field> {
        fields_of(&self.derive.data)
    }
}

impl<'a> Shape<'a> {
    fn of(derive: &'a DeriveInput) -> Result<Self> {
        let repr = Repr::of(&derive.attrs)?;
        match &derive.data {
            Data::Struct(data) => {
                repr.check_struct(derive)?;
                Ok(Self::Struct(&data.fields))
            }
            Data::Enum(data) => Ok(Self::Enum(data, repr.check_enum(derive)?)),
            Data::Union(_) => Err(Error::new_spanned(
                &derive.ident,
                "a union can't be ShmSafe: another process can't know which field is valid",
            )),
        }
    }
}

/// Returns the path in `#[shm_safe(crate = "path")]`, or `::shm_sync` without it.
fn crate_path(attributes: &[Attribute]) -> Result<Path> {
    let mut path = None;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("shm_safe")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                let only = "the only option of `shm_safe` is `crate = \"path\"`";
                return Err(meta.error(only));
            }
            let text: LitStr = meta.value()?.parse()?;
            let parsed = text.parse().map_err(|_| {
                Error::new_spanned(
                    &text,
                    "it is no path: write `crate = \"path::of::shm_sync\"`",
                )
            })?;
            if path.replace(parsed).is_some() {
                return Err(meta.error("the path of the crate is given twice"));
            }
            Ok(())
        })?;
    }
    Ok(path.unwrap_or_else(|| parse_quote!(::shm_sync)))
}

fn fields_of(data: &Data) -> impl Iterator<Item = &Field> {
    let fields: Vec<&Fields> = match data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|v| &v.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    fields.into_iter().flatten()
}

/// Reports types that can never implement `ShmSafe`, with a better message than that of
/// a missing trait.
fn check_field(ty: &Type, errors: &mut Vec<Error>) {
    let message = match ty {
        Type::Reference(_) => {
            "a reference can't be in shared memory: the address means nothing to another process"
        }
        Type::Ptr(_) => {
            "a pointer can't be in shared memory: the address means nothing to another process; \
             use an index or an offset"
        }
        Type::FnPtr(_) => {
            "a function pointer can't be in shared memory: other processes load the code elsewhere"
        }
        Type::Slice(_) => {
            "a slice can't be in shared memory: its length is not part of the type; use an array"
        }
        Type::Array(array) => return check_field(&array.elem, errors),
        Type::Paren(paren) => return check_field(&paren.elem, errors),
        Type::Group(group) => return check_field(&group.elem, errors),
        Type::Tuple(tuple) => {
            return tuple.elems.iter().for_each(|ty| check_field(ty, errors));
        }
        _ => return,
    };
    errors.push(Error::new_spanned(ty, message));
}

/// The contents of all `repr` attributes.
#[derive(Default)]
struct Repr {
    is_c: bool,
    is_transparent: bool,
    primitive: Option<Ident>,
    packed: Option<Ident>,
}

const PRIMITIVES: [&str; 12] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
];

impl Repr {
    fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut repr = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("repr")) {
            attribute.parse_nested_meta(|meta| {
                let word = meta.path.require_ident()?;
                if word == "C" {
                    repr.is_c = true;
                } else if word == "transparent" {
                    repr.is_transparent = true;
                } else if word == "packed" {
                    repr.packed = Some(word.clone());
                } else if PRIMITIVES.iter().any(|primitive| word == primitive) {
                    repr.primitive = Some(word.clone());
                }
                if meta.input.peek(syn::token::Paren) {
                    // The number in `align(N)` or `packed(N)`.
                    let number;
                    syn::parenthesized!(number in meta.input);
                    number.parse::<syn::LitInt>()?;
                }
                Ok(())
            })?;
        }
        Ok(repr)
    }

    fn check_struct(&self, derive: &DeriveInput) -> Result<()> {
        if let Some(packed) = &self.packed {
            return Err(Error::new_spanned(
                packed,
                "a packed struct can't be ShmSafe: its fields may be misaligned",
            ));
        }
        if self.is_c || self.is_transparent {
            return Ok(());
        }
        Err(Error::new_spanned(
            &derive.ident,
            "ShmSafe needs a layout that every build agrees on: add #[repr(C)]",
        ))
    }

    fn check_enum(self, derive: &DeriveInput) -> Result<EnumRepr> {
        match self.primitive {
            Some(discriminant) => Ok(EnumRepr {
                discriminant,
                is_c: self.is_c,
            }),
            None => Err(Error::new_spanned(
                &derive.ident,
                "ShmSafe needs to know how large the discriminant is: add #[repr(u8)], \
                 or another integer",
            )),
        }
    }
}
