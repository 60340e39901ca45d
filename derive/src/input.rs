//! What the derive macro accepts, and what it says of the rest.

use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, Result, Type};

/// A type that may be `ShmSafe` if its fields are.
pub(crate) struct Input<'a> {
    pub(crate) derive: &'a DeriveInput,
    pub(crate) shape: Shape<'a>,
}

/// What kind of type it is.
pub(crate) enum Shape<'a> {
    /// A struct with a fixed layout.
    Struct(&'a Fields),
    /// An enum whose discriminant has the type of that name.
    Enum(&'a syn::DataEnum, Ident),
}

impl<'a> Input<'a> {
    /// Checks the type; all that is wrong with it is reported at once.
    pub(crate) fn check(derive: &'a DeriveInput) -> Result<Self> {
        let repr = Repr::of(&derive.attrs)?;
        let shape = match &derive.data {
            Data::Struct(data) => repr
                .check_struct(derive)
                .map(|()| Shape::Struct(&data.fields)),
            Data::Enum(data) => repr
                .check_enum(derive)
                .map(|discriminant| Shape::Enum(data, discriminant)),
            Data::Union(data) => Err(Error::new(
                data.union_token.span(),
                "a union can't be ShmSafe: another process can't know which field is valid",
            )),
        };
        let fields = derive_fields(derive).map(|field| check_field(&field.ty));
        let errors = fields
            .filter_map(Result::err)
            .chain(shape.as_ref().err().cloned());
        match errors.reduce(|mut all, error| {
            all.combine(error);
            all
        }) {
            Some(all) => Err(all),
            None => Ok(Self {
                derive,
                shape: shape?,
            }),
        }
    }
}

/// All fields, of all variants.
fn derive_fields(derive: &DeriveInput) -> impl Iterator<Item = &syn::Field> {
    let fields: Vec<&Fields> = match &derive.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|v| &v.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    fields.into_iter().flatten()
}

/// Refuses what no implementation of `ShmSafe` could ever allow, in words that
/// fit it better than a missing trait.
fn check_field(ty: &Type) -> Result<()> {
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
        Type::Array(array) => return check_field(&array.elem),
        Type::Paren(paren) => return check_field(&paren.elem),
        Type::Group(group) => return check_field(&group.elem),
        Type::Tuple(tuple) => return tuple.elems.iter().try_for_each(check_field),
        _ => return Ok(()),
    };
    Err(Error::new(ty.span(), message))
}

/// The `repr` attributes, summed up.
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
            return Err(Error::new(
                packed.span(),
                "a packed struct can't be ShmSafe: its fields may be misaligned",
            ));
        }
        if self.is_c || self.is_transparent {
            return Ok(());
        }
        Err(Error::new(
            derive.ident.span(),
            "ShmSafe needs a layout that every build agrees on: add #[repr(C)]",
        ))
    }

    /// The type of the discriminant.
    fn check_enum(&self, derive: &DeriveInput) -> Result<Ident> {
        self.primitive.clone().ok_or_else(|| {
            Error::new(
                derive.ident.span(),
                "ShmSafe needs to know how large the discriminant is: add #[repr(u8)], \
                 or another integer",
            )
        })
    }
}
