//! Two formats of one model, compared and vouched for; and who is believed.

use super::models::{Tensor, tensors, write_folder, write_gguf};
use crate::support::{Folder, KEYS, TRUST};

fn both() -> Folder {
    let folder = Folder::new();
    write_folder(&folder, "hf", &tensors());
    write_gguf(&folder, "m.gguf", &tensors(), &[]);
    folder
}

const EQUATE: &str = "model-id --equate hf m.gguf";

#[test]
fn a_vouched_model_is_opened_into_and_no_other() {
    let folder = both();
    let equated = folder.json(&format!(
        "{EQUATE} --sign-key issuer.key --issuer lab -o same"
    ));
    assert_eq!(equated["tensors"], 57);
    assert_eq!(equated["permuted"], 12);
    folder.take("mlx032_f16.safetensors", "mlx.st");
    folder.ok(&format!(
        "seal mlx.st -o a.kvcap --model hf --ttl 1h --tokens prompt.json {KEYS}"
    ));
    let to = format!(
        "open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key --to llama-cpp --target-model m.gguf"
    );
    folder.refused(&format!("{to} -o x"), 601, 1);
    let vouched = "--equivalence same --vouched-by issuer.key.pub";
    let opened = folder.json(&format!("{to} -o x {vouched}"));
    assert!(
        opened["target_vouched"]
            .as_str()
            .unwrap()
            .contains("\"lab\"")
    );
    // and the other way, by the same statement
    folder.ok(&format!("seal x -o b.kvcap --model m.gguf --ttl 1h {KEYS}"));
    folder.ok(&format!(
        "open b.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key -o y --to mlx-lm --target-model hf {vouched}"
    ));
    // a key that is trusted with capsules does not vouch for models
    folder.refused(&format!("{to} -o z --equivalence same"), 302, 1);
    folder.ok("keygen sign -o other.key");
    let other = "--vouched-by other.key.pub";
    folder.refused(&format!("{to} -o z --equivalence same {other}"), 301, 1);
    let mut forged = folder.read("same");
    let last = forged.len() - 1;
    forged[last] ^= 1;
    folder.write("forged", &forged);
    let by = "--vouched-by issuer.key.pub";
    let ran = folder.run(&format!("{to} -o z --equivalence forged {by}"));
    assert!(
        ran.err.contains("KVC-306") || ran.err.contains("KVC-307"),
        "{}",
        ran.err
    );
    // a statement about other models
    write_gguf(
        &folder,
        "other.gguf",
        &tensors(),
        &[("general.alignment2", 1.0)],
    );
    let other = to.replace("m.gguf", "other.gguf");
    folder.refused(&format!("{other} -o z {vouched}"), 609, 1);
    folder.refused(
        &format!("{to} -o z {vouched} --danger-unequal-models"),
        944,
        2,
    );
}

#[test]
fn models_that_differ_are_not_equated() {
    let folder = both();
    let epsilon = ("llama.attention.layer_norm_rms_epsilon", 1e-6);
    let check = |change: &dyn Fn(&mut Vec<Tensor>), keys: &[(&str, f32)], code| {
        let mut tensors = tensors();
        change(&mut tensors);
        write_gguf(&folder, "m.gguf", &tensors, keys);
        let exit = 1;
        folder.refused(&format!("{EQUATE} --sign-key issuer.key -o x"), code, exit);
    };
    // one weight of each tensor, by its last bit
    for at in [0, 1, 2, 3, 4, 20, 56 - 1] {
        let change = |tensors: &mut Vec<Tensor>| {
            let values = &mut tensors[at].values;
            let last = values.last_mut().unwrap();
            *last = f32::from_bits(last.to_bits() ^ 1);
        };
        check(&change, &[], 933);
    }
    let unpaired = |tensors: &mut Vec<Tensor>| {
        let keys = tensors
            .iter_mut()
            .find(|t| t.gguf.contains("attn_k"))
            .unwrap();
        keys.values = super::models::interleave(&keys.values);
    };
    check(&unpaired, &[], 933);
    check(&|tensors| drop(tensors.pop()), &[], 933);
    check(&|tensors| tensors[5].gguf.push('2'), &[], 933);
    check(&|_| {}, &[epsilon], 933);
    check(&|_| {}, &[("llama.rope.freq_base", 20_000.0)], 603);
    check(&|_| {}, &[("llama.attention.scale", 0.1)], 931);
    check(&|_| {}, &[("llama.rope.scaling.factor", 2.0)], 603);
    // a profile without weights has nothing to compare
    folder.ok("model-id hf -o hf.kvid");
    folder.refused("model-id --equate hf.kvid m.gguf", 931, 1);
    folder.refused("model-id --equate hf", 944, 2);
    folder.refused("model-id", 944, 2);
}

#[test]
fn a_folder_and_its_copy_in_other_files_are_one() {
    let folder = both();
    write_folder(
        &folder,
        "again",
        &tensors().into_iter().rev().collect::<Vec<_>>(),
    );
    let equated = folder.json("model-id --equate hf again");
    assert_eq!(
        (&equated["permuted"], &equated["tensors"]),
        (&0.into(), &57.into())
    );
    assert_ne!(equated["model_ids"][0], equated["model_ids"][1]);
}
