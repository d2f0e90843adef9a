//! Networks in ONNX files, by Microsoft's ONNX Runtime, which is loaded when the server starts and never downloaded.
//!
//! What a file must look like: its first input of floats, `[1, N]` or `[N]`, is a window. An input of one whole number
//! gets the sample rate. Other inputs of floats are a memory: they begin as zeros, and the outputs after the first are
//! what they are for the next window, in order. Dimensions that are left open are 1, but that of the window.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use super::{HZ, Memory, Model, ModelChoice, ModelError};

/// Samples of a window, at most: 30 s.
const WINDOW_MAX: usize = 30 * HZ;
/// Floats of a memory, at most.
const MEMORY_MAX: usize = 1 << 20;

/// One network.
pub struct OnnxModel {
    session: Session,
    inputs: Vec<Input>,
    window: usize,
    outputs: usize,
}

/// What an input is fed with.
#[derive(Debug)]
enum Input {
    Window(Vec<usize>),
    SampleRate(Vec<usize>),
    Memory(Vec<usize>),
}

impl OnnxModel {
    /// Loads the library, once for a process.
    ///
    /// # Errors
    /// [`ModelError::NoRuntime`].
    pub fn runtime(library: &Path) -> Result<Environment, ModelError> {
        // The library allows one at a time.
        static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |why: String| ModelError::NoRuntime {
            path: library.display().to_string(),
            why,
        };
        match &*loaded {
            Some((path, environment)) if path == library => return Ok(environment.clone()),
            Some((path, _)) => return Err(missing(format!("{} is loaded", path.display()))),
            None => {}
        }
        let builder = ort::init_from(library).map_err(|error| missing(error.to_string()))?;
        let environment = builder.with_telemetry(false).build();
        let environment = environment.map_err(|error| missing(error.to_string()))?;
        *loaded = Some((library.to_owned(), environment.clone()));
        Ok(environment)
    }

    /// Loads a network.
    ///
    /// # Errors
    /// [`ModelError::Unusable`], saying what is not as it must be.
    pub fn load(environment: &Environment, choice: &ModelChoice) -> Result<Self, ModelError> {
        let unusable = |why: String| ModelError::Unusable {
            choice: choice.clone(),
            why,
        };
        let session = open(environment, &choice.path).map_err(unusable)?;
        let usual = choice.role.usual_window();
        let inputs = inputs(session.inputs(), usual).map_err(unusable)?;
        let windows = inputs.iter().filter_map(|input| match input {
            Input::Window(shape) => Some(shape.iter().product::<usize>()),
            _ => None,
        });
        let window: usize = windows.sum();
        let memories = inputs.iter().filter(|it| matches!(it, Input::Memory(_)));
        let memories = memories.count();
        if window == 0 || window > WINDOW_MAX {
            return Err(unusable(format!(
                "its first input of floats is to be a window of 1 to {WINDOW_MAX} samples"
            )));
        }
        if session.outputs().len() <= memories {
            return Err(unusable(format!(
                "a memory of {memories} inputs takes as many outputs after the first"
            )));
        }
        let mut model = Self {
            session,
            inputs,
            window,
            outputs: choice.role.outputs(window),
        };
        // Shapes of outputs are known for certain only when they are there.
        let mut memory = model.memory();
        let tried = model.run(&vec![0.0; window], &mut memory, &mut Vec::new());
        tried.map_err(|error| unusable(error.to_string()))?;
        Ok(model)
    }

    fn infer(&mut self, window: &[f32], memory: &Memory) -> Result<(Vec<f32>, Memory), ort::Error> {
        let mut memories = memory.iter();
        let mut values: Vec<SessionInputValue<'_>> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            values.push(match input {
                Input::Window(shape) => TensorRef::from_array_view((shape.clone(), window))?.into(),
                Input::SampleRate(shape) => {
                    Tensor::from_array((shape.clone(), vec![HZ as i64]))?.into()
                }
                Input::Memory(shape) => {
                    let floats = memories.next().map_or(&[][..], Vec::as_slice);
                    TensorRef::from_array_view((shape.clone(), floats))?.into()
                }
            });
        }
        let outputs = self.session.run(values.as_slice())?;
        let floats = |index: usize| -> Result<Vec<f32>, ort::Error> {
            Ok(outputs[index].try_extract_tensor::<f32>()?.1.to_vec())
        };
        let first = floats(0)?;
        let next = (1..=memory.len()).map(floats).collect::<Result<_, _>>()?;
        Ok((first, next))
    }
}

impl Model for OnnxModel {
    fn window(&self) -> usize {
        self.window
    }

    fn memory(&self) -> Memory {
        let zeros = |input: &Input| match input {
            Input::Memory(shape) => Some(vec![0.0; shape.iter().product()]),
            _ => None,
        };
        self.inputs.iter().filter_map(zeros).collect()
    }

    fn run(
        &mut self,
        window: &[f32],
        memory: &mut Memory,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let ran = self.infer(window, memory);
        let (first, next) = ran.map_err(|error| ModelError::Failed(error.to_string()))?;
        if first.len() != self.outputs {
            return Err(ModelError::Failed(format!(
                "{} numbers came out where {} were to",
                first.len(),
                self.outputs
            )));
        }
        let same = |(old, new): (&Vec<f32>, &Vec<f32>)| old.len() == new.len();
        if !memory.iter().zip(&next).all(same) {
            return Err(ModelError::Failed(
                "its memory came out of another length than it went in".to_owned(),
            ));
        }
        let finite = |floats: &Vec<f32>| floats.iter().all(|it| it.is_finite());
        if !finite(&first) || !next.iter().all(finite) {
            return Err(ModelError::Failed("no finite numbers came out".to_owned()));
        }
        (*memory, *out) = (next, first);
        Ok(())
    }
}

/// One thread, so that a network never takes more than that from the shards.
fn open(environment: &Environment, path: &Path) -> Result<Session, String> {
    let mut builder = Session::builder(environment)
        .map_err(|error| error.to_string())?
        .with_intra_threads(1)
        .map_err(|error| error.to_string())?
        .with_inter_threads(1)
        .map_err(|error| error.to_string())?;
    builder
        .commit_from_file(path)
        .map_err(|error| error.to_string())
}

fn inputs(outlets: &[Outlet], usual_window: usize) -> Result<Vec<Input>, String> {
    let (mut heard, mut memory) = (false, 0_usize);
    let mut inputs = Vec::with_capacity(outlets.len());
    for outlet in outlets {
        let name = outlet.name();
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
            return Err(format!("its input {name} is no tensor"));
        };
        let sized = |open: usize| -> Vec<usize> {
            let size = |side: &i64| usize::try_from(*side).unwrap_or(open);
            shape.iter().map(size).collect()
        };
        inputs.push(match ty {
            TensorElementType::Float32 if !heard => {
                heard = true;
                let mut sides = sized(1);
                if shape.last().is_some_and(|side| *side < 0)
                    && let Some(last) = sides.last_mut()
                {
                    *last = usual_window;
                }
                Input::Window(sides)
            }
            TensorElementType::Float32 => {
                let sides = sized(1);
                let floats = sides
                    .iter()
                    .try_fold(1_usize, |all, side| all.checked_mul(*side));
                memory = memory.saturating_add(floats.unwrap_or(usize::MAX));
                Input::Memory(sides)
            }
            TensorElementType::Int64 if sized(1).iter().product::<usize>() == 1 => {
                Input::SampleRate(sized(1))
            }
            _ => return Err(format!("nobody knows what its input {name} is to be")),
        });
    }
    if memory > MEMORY_MAX {
        return Err(format!("its memory is of more than {MEMORY_MAX} floats"));
    }
    Ok(inputs)
}
