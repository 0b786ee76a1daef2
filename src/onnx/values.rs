//! The values of a constant tensor: reading them in the type that the caller wants, making them.

use half::f16;

use super::OnnxError;
use super::proto::{TensorProto, data_type};

/// A float32 constant of this shape.
pub fn tensor_f32(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..Default::default()
    }
}

/// A constant list of int64.
pub fn tensor_i64(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(data_type::INT64),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..Default::default()
    }
}

/// The shape of a constant.
///
/// # Errors
/// When a length is negative, or there are more values than memory could hold.
pub fn dims(tensor: &TensorProto) -> Result<Vec<usize>, OnnxError> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let count = |dims: &Vec<usize>| dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
    dims.filter(|dims| count(dims).is_some_and(|count| count <= isize::MAX as usize / 8)).ok_or_else(|| {
        OnnxError::invalid(format!("{:?} has the impossible shape {:?}", tensor.name(), tensor.dims))
    })
}

/// The values of a float constant (float32, float16 or float64), as `f32`.
///
/// # Errors
/// When the type is another one, or the number of values does not fit the shape.
pub fn to_f32(tensor: &TensorProto) -> Result<Vec<f32>, OnnxError> {
    let raw = tensor.raw_data.as_deref();
    let values: Vec<f32> = match (tensor.data_type(), raw) {
        (data_type::FLOAT, Some(raw)) => fixed(raw, f32::from_le_bytes),
        (data_type::FLOAT, None) => tensor.float_data.clone(),
        (data_type::FLOAT16, Some(raw)) => fixed(raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        (data_type::FLOAT16, None) => {
            tensor.int32_data.iter().map(|&bits| f16::from_bits(bits as u16).to_f32()).collect()
        }
        (data_type::DOUBLE, Some(raw)) => fixed(raw, |bytes| f64::from_le_bytes(bytes) as f32),
        (data_type::DOUBLE, None) => tensor.double_data.iter().map(|&value| value as f32).collect(),
        (other, _) => {
            return Err(OnnxError::invalid(format!(
                "{:?} holds elements of type {other}, where floats are needed",
                tensor.name()
            )));
        }
    };
    counted(tensor, values)
}

/// The values of an integer constant (int64 or int32), as `i64`.
///
/// # Errors
/// When the type is another one, or the number of values does not fit the shape.
pub fn to_i64(tensor: &TensorProto) -> Result<Vec<i64>, OnnxError> {
    let raw = tensor.raw_data.as_deref();
    let values: Vec<i64> = match (tensor.data_type(), raw) {
        (data_type::INT64, Some(raw)) => fixed(raw, i64::from_le_bytes),
        (data_type::INT64, None) => tensor.int64_data.clone(),
        (data_type::INT32, Some(raw)) => fixed(raw, |bytes| i64::from(i32::from_le_bytes(bytes))),
        (data_type::INT32, None) => tensor.int32_data.iter().map(|&value| i64::from(value)).collect(),
        (other, _) => {
            return Err(OnnxError::invalid(format!(
                "{:?} holds elements of type {other}, where integers are needed",
                tensor.name()
            )));
        }
    };
    counted(tensor, values)
}

/// Writes new values into a float constant, in the type that it has.
///
/// # Errors
/// When the type is no float type, or the number of values differs.
pub fn replace_f32(tensor: &mut TensorProto, values: &[f32]) -> Result<(), OnnxError> {
    let expected: usize = dims(tensor)?.iter().product();
    if values.len() != expected {
        return Err(OnnxError::invalid(format!(
            "{:?} holds {expected} values, not {}",
            tensor.name(),
            values.len()
        )));
    }
    let raw = match tensor.data_type() {
        data_type::FLOAT => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        data_type::FLOAT16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        data_type::DOUBLE => values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
        other => {
            return Err(OnnxError::invalid(format!("{:?} has type {other}, no float type", tensor.name())));
        }
    };
    tensor.raw_data = Some(raw);
    tensor.float_data.clear();
    tensor.int32_data.clear();
    tensor.double_data.clear();
    Ok(())
}

fn fixed<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
}

fn counted<T>(tensor: &TensorProto, values: Vec<T>) -> Result<Vec<T>, OnnxError> {
    let expected: usize = dims(tensor)?.iter().product();
    if values.len() == expected {
        Ok(values)
    } else {
        Err(OnnxError::Damaged {
            reason: format!("{:?} should hold {expected} values and holds {}", tensor.name(), values.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_each_float_type() {
        for kind in [data_type::FLOAT, data_type::FLOAT16, data_type::DOUBLE] {
            let mut tensor = tensor_f32("t", &[2, 2], &[0.0; 4]);
            tensor.data_type = Some(kind);
            tensor.raw_data =
                Some(vec![0; 4 * [4, 2, 8][[1, 10, 11].iter().position(|&k| k == kind).unwrap()]]);
            replace_f32(&mut tensor, &[1.0, -0.5, 0.25, 1024.0]).unwrap();
            assert_eq!(to_f32(&tensor).unwrap(), [1.0, -0.5, 0.25, 1024.0]);
        }
    }

    #[test]
    fn a_short_tensor_is_called_damaged() {
        let mut tensor = tensor_f32("t", &[3], &[1.0, 2.0, 3.0]);
        tensor.raw_data.as_mut().unwrap().truncate(8);
        assert!(matches!(to_f32(&tensor), Err(OnnxError::Damaged { .. })));
    }
}
