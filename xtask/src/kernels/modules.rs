//! Which kernel modules a guest needs, and in which order they load: reads `modules.dep` and `modules.builtin`.
//!
//! Must not know where the files come from, nor how a module reaches the guest. Bounded by the kernel's own module
//! list (a few thousand lines); a dependency cycle, which depmod never writes, ends the walk instead of looping.

use std::collections::{HashMap, HashSet};

/// The modules of one kernel, by their names as `lsmod` shows them (underscores, never hyphens).
#[derive(Debug, Default)]
pub struct Modules {
    /// Name → path below the kernel's module directory, and the paths of what it needs.
    loadable: HashMap<String, (String, Vec<String>)>,
    built_in: HashSet<String>,
}

/// What to do to have a list of modules in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadPlan {
    /// Paths below the kernel's module directory; each comes after everything it needs.
    pub load: Vec<String>,
    /// Wanted modules that this kernel does not have, neither as a file nor built in.
    pub missing: Vec<String>,
}

impl Modules {
    /// Reads the text of `modules.dep` and `modules.builtin`.
    pub fn parse(dependencies: &str, built_in: &str) -> Self {
        let loadable = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                (module_name(path), (path.trim().to_owned(), needs))
            })
            .collect();
        let built_in = built_in.lines().filter(|line| !line.trim().is_empty()).map(module_name).collect();
        Self { loadable, built_in }
    }

    /// Orders the wanted modules and all they need, each once.
    pub fn plan<'wanted>(&self, wanted: impl IntoIterator<Item = &'wanted str>) -> LoadPlan {
        let mut plan = LoadPlan::default();
        let mut visited = HashSet::new();
        for name in wanted {
            let name = module_name(name);
            if !self.built_in.contains(&name) {
                self.visit(&name, &mut visited, &mut plan);
            }
        }
        plan
    }

    fn visit(&self, name: &str, visited: &mut HashSet<String>, plan: &mut LoadPlan) {
        if !visited.insert(name.to_owned()) {
            return;
        }
        let Some((path, needs)) = self.loadable.get(name) else {
            plan.missing.push(name.to_owned());
            return;
        };
        // depmod lists the direct need first and the deepest last.
        for need in needs.iter().rev() {
            self.visit(&module_name(need), visited, plan);
        }
        plan.load.push(path.clone());
    }
}

/// `kernel/net/netfilter/nft_chain_nat.ko.xz` → `nft_chain_nat`.
pub fn module_name(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko kernel/lib/libcrc32c.ko
kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko:
kernel/lib/libcrc32c.ko: kernel/crypto/crc32c_generic.ko
kernel/crypto/crc32c_generic.ko:
kernel/net/netfilter/nf_nat.ko: kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko kernel/lib/libcrc32c.ko kernel/crypto/crc32c_generic.ko
kernel/drivers/net/veth.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko:
";

    fn modules() -> Modules {
        Modules::parse(DEPENDENCIES, "kernel/net/ipv6/ipv6.ko\nkernel/net/packet/af_packet.ko\n\n")
    }

    #[test]
    fn a_module_loads_after_everything_it_needs_and_once() {
        let plan = modules().plan(["nf_nat", "nf_conntrack", "veth"]);
        assert_eq!(plan.missing, Vec::<String>::new());
        let position = |name: &str| {
            let found: Vec<_> = plan
                .load
                .iter()
                .enumerate()
                .filter(|(_, path)| module_name(path) == name)
                .map(|(i, _)| i)
                .collect();
            assert_eq!(found.len(), 1, "{name} in {:?}", plan.load);
            found[0]
        };
        assert!(position("crc32c_generic") < position("libcrc32c"));
        assert!(position("libcrc32c") < position("nf_conntrack"));
        assert!(position("nf_defrag_ipv6") < position("nf_conntrack"));
        assert!(position("nf_conntrack") < position("nf_nat"));
        assert_eq!(plan.load[position("veth")], "kernel/drivers/net/veth.ko.xz");
        assert_eq!(plan.load.len(), 6);
    }

    #[test]
    fn built_in_modules_need_no_loading_and_absent_ones_are_named() {
        let plan = modules().plan(["ipv6", "af-packet", "tls", "tls"]);
        assert_eq!(plan, LoadPlan { load: vec![], missing: vec!["tls".to_owned()] });
    }

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        assert_eq!(modules().plan(["crc32c_intel"]).load, ["kernel/arch/x86/crypto/crc32c-intel.ko"]);
        assert_eq!(module_name("kernel/x/a-b.ko.zst"), "a_b");
    }

    #[test]
    fn a_cycle_ends() {
        let modules = Modules::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
        assert_eq!(modules.plan(["a"]).load, ["b.ko", "a.ko"]);
    }
}
