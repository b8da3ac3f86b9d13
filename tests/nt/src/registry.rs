//! The registry: the `Device Parameters` of devices, of which drivers set values.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, mem::offset_of};

use nt_sys::{
    KEY_SET_VALUE, PLUGPLAY_REGKEY_DEVICE, STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, UNICODE_STRING,
};

use crate::{
    call::{Answer, Call, Outcome},
    cpu::Wait,
    dpc::status,
    kernel::Kernel,
    thread::Object,
    verdict::{Finding, Verdict},
};

const BUFFER: u64 = offset_of!(UNICODE_STRING, Buffer) as u64;

/// `PLUGPLAY_REGKEY_DRIVER`, `PLUGPLAY_REGKEY_CURRENT_HWPROFILE`.
const DRIVER: u32 = 2;
const PROFILE: u32 = 4;

/// A call that writes takes up to so long, in units of 100 ns: the key may have to be read first.
const LONGEST: u64 = 2_000;

/// The values that there are, by device and name.
#[derive(Debug, Default)]
pub(crate) struct Registry(BTreeMap<(usize, String), Value>);

/// A value: its type (`REG_DWORD`), and its data.
pub(crate) type Value = (u32, Vec<u8>);

impl Kernel {
    /// `IoOpenDeviceRegistryKey`: of a physical device object.
    pub(crate) fn io_open_device_registry_key(&mut self, call: &Call) -> Outcome {
        let (device, kind) = (call.argument(0), call.narrow(1));
        let (access, result) = (call.narrow(2), call.argument(3));
        if kind & PROFILE != 0 || kind == DRIVER {
            return Err(Verdict::NotModelled.because(format!("DevInstKeyType = {kind}")));
        }
        if kind != PLUGPLAY_REGKEY_DEVICE {
            return Ok(Answer::Return(status(STATUS_INVALID_PARAMETER)));
        }
        let Some(node) = self.nodes.of_pdo(device).filter(|&node| !self.nodes[node].is_gone) else {
            return Ok(Answer::Return(status(STATUS_INVALID_DEVICE_REQUEST)));
        };
        if self.allocation_fails() {
            return Ok(Answer::Return(status(STATUS_INSUFFICIENT_RESOURCES)));
        }
        let key = self.open(Object::DeviceKey { node, access }, call);
        self.memory.write(result, key)?;
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// `ZwSetValueKey`: the key was opened with `KEY_SET_VALUE`; whatever value had that name is replaced.
    pub(crate) fn zw_set_value_key(&mut self, call: &Call) -> Outcome {
        let Object::DeviceKey { node, access } = self.object(call.argument(0))? else {
            return Err(Verdict::BadHandle.because(format!("{:#x} is no key's", call.argument(0))));
        };
        if access & KEY_SET_VALUE == 0 {
            return Ok(Answer::Return(status(STATUS_ACCESS_DENIED)));
        }
        let name = self.read_string(call.argument(1))?;
        let length = usize::try_from(call.narrow(5)).expect("32 bits");
        let value = (call.narrow(3), self.memory.read_bytes(call.argument(4), length)?);
        if self.allocation_fails() {
            return Ok(Answer::Return(status(STATUS_INSUFFICIENT_RESOURCES)));
        }
        self.registry.0.insert((node, name), value);
        Ok(Answer::Block(Wait::Registry { until: self.now + self.dice.below(LONGEST) }))
    }

    /// A value of a device's key.
    pub(crate) fn value(&self, node: usize, name: &str) -> Option<Value> {
        self.registry.0.get(&(node, name.to_owned())).cloned()
    }

    fn read_string(&self, at: u64) -> Result<String, Finding> {
        let length: u16 = self.memory.read(at)?;
        let bytes = self.memory.read_bytes(self.memory.read(at + BUFFER)?, length.into())?;
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        Ok(String::from_utf16_lossy(&units))
    }
}
