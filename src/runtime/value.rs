//! What a session takes and gives.

use std::fmt;

use crate::tensor::Tensor;

/// A tensor of `f32`, held by the host or still by the runtime that made it.
pub struct Value(pub(super) Holder);

/// Who holds the numbers.
pub(super) enum Holder {
    Host(Tensor),
    #[cfg(feature = "ort")]
    Ort(ort::value::Tensor<f32>),
    #[cfg(feature = "tract")]
    Tract(tract_onnx::prelude::TValue),
}

impl Value {
    /// The length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        match &self.0 {
            Holder::Host(tensor) => tensor.shape().to_vec(),
            #[cfg(feature = "ort")]
            Holder::Ort(tensor) => tensor.shape().iter().map(|&length| length as usize).collect(),
            #[cfg(feature = "tract")]
            Holder::Tract(tensor) => tensor.shape().to_vec(),
        }
    }

    /// The values, row-major, without a copy.
    pub fn data(&self) -> &[f32] {
        match &self.0 {
            Holder::Host(tensor) => tensor.data(),
            #[cfg(feature = "ort")]
            Holder::Ort(tensor) => tensor.extract_tensor().1,
            #[cfg(feature = "tract")]
            Holder::Tract(tensor) => {
                let view = tensor.as_plain_ram().expect("sessions only keep plain tensors");
                view.as_slice().expect("sessions only keep tensors of f32")
            }
        }
    }

    /// A copy that the host owns.
    pub fn to_tensor(&self) -> Tensor {
        Tensor::new(self.shape(), self.data().to_vec())
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Value(Holder::Host(tensor))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value{:?}", self.shape())
    }
}
