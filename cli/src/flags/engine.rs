//! The engine of a gateway that is begun on this machine.

use std::path::PathBuf;

/// A program without the server does not show what is the server's.
pub(crate) const UNBUILT: bool = cfg!(not(feature = "server"));

/// llama-server and its model.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The model, a GGUF file
    #[arg(long, value_name = "FILE", hide = UNBUILT)]
    pub(crate) model: Option<PathBuf>,
    /// llama-server's program [default: that of KVCAP_LLAMA_SERVER, or as the path finds it]
    #[arg(long, value_name = "PATH", requires = "model", hide = UNBUILT)]
    engine: Option<PathBuf>,
    /// Tokens of a conversation
    #[arg(long, value_name = "N", requires = "model", default_value = "8192", hide = UNBUILT)]
    context: u64,
    /// An argument for llama-server, as --engine-arg=--swa-full. Several may be given
    #[arg(
        long,
        value_name = "ARG",
        requires = "model",
        allow_hyphen_values = true,
        hide = UNBUILT
    )]
    engine_arg: Vec<String>,
}

#[cfg(feature = "server")]
impl EngineArgs {
    /// The engine with so many slots, where a model is named.
    pub(crate) fn setup(&self, slots: usize) -> Option<kvcap_server::EngineSetup> {
        let model = self.model.clone()?;
        let variable = || std::env::var_os("KVCAP_LLAMA_SERVER").map(PathBuf::from);
        Some(kvcap_server::EngineSetup::llama_server(
            self.engine.clone().or_else(variable),
            model,
            slots,
            self.context,
            self.engine_arg.clone(),
        ))
    }
}
