//! Giving up capabilities: capabilities(7).
use abi::Result;
use rustix::thread::{
    capability_is_in_bounding_set, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

pub use rustix::thread::{CapabilitySet, CapabilitySets};

/// The calling thread's effective capabilities.
pub fn effective() -> Result<CapabilitySet> {
    rustix::thread::capabilities(None).map(|c| c.effective).map_err(crate::errno)
}

/// Leaves the calling thread `keep` and no way to more: the bounding and ambient sets too.
/// EPERM without CAP_SETPCAP.
pub fn restrict(keep: CapabilitySet) -> Result {
    bound(keep)?;
    let none = CapabilitySet::empty();
    set(CapabilitySets { effective: keep, permitted: keep, inheritable: none }, none)
}

/// The ceiling: no exec gives this thread, or what it starts, a capability that is not in `keep`.
pub fn bound(keep: CapabilitySet) -> Result {
    // Numbers past the kernel's last capability answer EINVAL.
    for bit in 0..64 {
        let cap = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(cap) {
            Ok(true) if !keep.contains(cap) => remove_capability_from_bounding_set(cap).map_err(crate::errno)?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Sets the calling thread's other sets. EPERM for what it does not have.
pub fn set(sets: CapabilitySets, ambient: CapabilitySet) -> Result {
    clear_ambient_capability_set().map_err(crate::errno)?;
    set_capabilities(None, sets).map_err(crate::errno)?;
    for cap in ambient.iter() {
        rustix::thread::configure_capability_in_ambient_set(cap, true).map_err(crate::errno)?;
    }
    Ok(())
}
