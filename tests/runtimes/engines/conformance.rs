//! What every engine must do, whichever runtime it is.

use std::{fs, time::Duration};

use kvcap_engines::{Asked, Engine, EngineError, Slot};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{completion, kill, processes, read, slot, wait_for};

/// An engine, and what the suite cannot ask it.
pub(crate) struct Subject<'a> {
    pub(crate) engine: &'a dyn Engine,
    /// Text in the command line of its process and of no other.
    pub(crate) mark: &'a str,
    /// The model has a chat template.
    pub(crate) chats: bool,
}

const STORY: &str = "Once upon a time there was a little fox who lived at the edge of a deep wood. Every morning it \
                     went down to the river and counted the stones, and every evening it told its mother how many.";
const MORE: &str =
    " One day the river had risen in the night, and of all the stones there were only three left.";
const WORDS: u64 = 12;

fn likeliest(prompt: impl Into<Value>) -> Asked {
    completion(prompt, WORDS, true)
}

impl Subject<'_> {
    async fn slot(&self, index: usize) -> Slot {
        slot(self.engine, index).await
    }

    async fn ids(&self, text: &str) -> Vec<u32> {
        self.engine
            .tokens(&completion(text, 1, false))
            .await
            .unwrap()
    }

    /// All of it. The slots are used from the first on.
    pub(crate) async fn conform(&self) {
        let parts = [self.engine.about().slots, 2];
        assert!(parts[0] >= parts[1], "the suite needs two slots");
        self.tokens_are_stable().await;
        self.a_state_goes_on_elsewhere().await;
        self.what_was_evaluated_alone_is_reused().await;
        self.an_edited_prompt_is_cut_to().await;
        self.slots_are_their_own().await;
        self.garbage_is_refused_and_the_slot_is_clean().await;
        self.nothing_is_left_by_a_reader_that_goes().await;
        self.a_kill_is_a_loss_and_no_more().await;
    }

    async fn tokens_are_stable(&self) {
        let ids = self.ids(STORY).await;
        assert!(ids.len() > 20, "{ids:?}");
        assert_eq!(ids, self.ids(STORY).await);
        // ids are themselves
        assert_eq!(
            ids,
            self.engine
                .tokens(&completion(json!(ids), 1, false))
                .await
                .unwrap()
        );
        if !self.chats {
            return;
        }
        let tool = json!({ "type": "function", "function": { "name": "count", "parameters": { "type": "object", "properties": {} } } });
        let message = json!({ "role": "user", "content": STORY });
        let plain = Asked::chat(json!({ "messages": [message] }));
        let first = self.engine.tokens(&plain).await.unwrap();
        assert_eq!(first, self.engine.tokens(&plain).await.unwrap());
        // what is asked later begins with it
        let answer = json!({ "role": "assistant", "content": "Three." });
        let later = Asked::chat(json!({ "messages": [message, answer, message] }));
        let later = self.engine.tokens(&later).await.unwrap();
        let common = first.iter().zip(&later).take_while(|(a, b)| a == b).count();
        assert!(
            later.len() > first.len() && common > ids.len(),
            "{common} of {}",
            first.len()
        );
        let with_tools = Asked::chat(json!({ "messages": [message], "tools": [tool] }));
        self.engine.tokens(&with_tools).await.unwrap();
        // and an answer is counted over the same ids
        let body = json!({ "messages": [message], "max_tokens": 4, "temperature": 0 });
        let one = self.slot(0).await;
        self.engine.erase(one).await.unwrap();
        let (text, counts) = read(self.engine.answer(one, Asked::chat(body)).await.unwrap())
            .await
            .unwrap();
        let count = u64::try_from(first.len()).unwrap();
        assert_eq!(counts.cached + counts.evaluated, count);
        assert!(!text.is_empty());
    }

    /// Exports, empties, admits elsewhere, and goes on: the same words as without.
    async fn a_state_goes_on_elsewhere(&self) {
        let (one, two) = (self.slot(0).await, self.slot(1).await);
        let (ids, more) = (self.ids(STORY).await, self.ids(MORE).await);
        let held = u64::try_from(ids.len()).unwrap();
        let longer = [ids.as_slice(), more.as_slice()].concat();
        self.engine.erase(one).await.unwrap();
        self.engine.erase(two).await.unwrap();
        self.engine.evaluate(one, &ids).await.unwrap();
        let state = self.engine.export(one).await.unwrap();
        let live = self
            .engine
            .answer(one, likeliest(json!(longer)))
            .await
            .unwrap();
        let without = live.reused.cached;
        let (expected, _) = read(live).await.unwrap();
        self.engine.erase(one).await.unwrap();
        let again = self.copy(&state);
        drop(state);
        self.engine.admit(two, again).await.unwrap();
        let answer = self
            .engine
            .answer(two, likeliest(json!(longer)))
            .await
            .unwrap();
        let reused = answer.reused.cached;
        let all = u64::try_from(longer.len()).unwrap();
        assert_eq!(reused + answer.reused.evaluated, all);
        let (words, _) = read(answer).await.unwrap();
        match self.engine.about().rewinds {
            true => assert_eq!((without, reused, words), (held, held, expected)),
            // what a window has lost is evaluated again, more of it where only the file is left
            false => assert!(reused <= without && without <= held, "{reused}, {without}"),
        }
        self.nothing_is_left();
    }

    /// The whole prompt again: all of it is reused but its last token.
    async fn what_was_evaluated_alone_is_reused(&self) {
        let one = self.slot(0).await;
        let ids = self.ids(STORY).await;
        let count = u64::try_from(ids.len()).unwrap();
        self.engine.erase(one).await.unwrap();
        let counts = self.engine.evaluate(one, &ids).await.unwrap();
        assert_eq!((counts.cached, counts.evaluated), (0, count));
        let state = self.engine.export(one).await.unwrap();
        self.engine.erase(one).await.unwrap();
        let again = self.copy(&state);
        self.engine.admit(one, again).await.unwrap();
        let answer = self
            .engine
            .answer(one, likeliest(json!(ids)))
            .await
            .unwrap();
        let rest = if self.engine.about().rewinds {
            1
        } else {
            answer.reused.evaluated
        };
        assert_eq!(
            (answer.reused.cached, answer.reused.evaluated),
            (count - rest, rest)
        );
        read(answer).await.unwrap();
    }

    async fn an_edited_prompt_is_cut_to(&self) {
        if !self.engine.about().rewinds {
            return;
        }
        let one = self.slot(0).await;
        let mut ids = self.ids(STORY).await;
        self.engine.evaluate(one, &ids).await.unwrap();
        let at = ids.len() / 2;
        ids[at] = ids[at - 1];
        let counts = self.engine.evaluate(one, &ids).await.unwrap();
        assert_eq!(counts.cached, u64::try_from(at).unwrap());
    }

    async fn slots_are_their_own(&self) {
        let (one, two) = (self.slot(0).await, self.slot(1).await);
        let (story, more) = (self.ids(STORY).await, self.ids(MORE).await);
        self.engine.erase(two).await.unwrap();
        self.engine.evaluate(one, &story).await.unwrap();
        assert_eq!(self.engine.evaluate(two, &story).await.unwrap().cached, 0);
        let both = tokio::join!(
            self.engine.answer(one, likeliest(json!(story))),
            self.engine.answer(two, likeliest(json!(more)))
        );
        let (first, second) = (both.0.unwrap(), both.1.unwrap());
        let (first, second) = tokio::join!(read(first), read(second));
        assert_ne!(first.unwrap().0, second.unwrap().0);
        self.engine.erase(one).await.unwrap();
        // the other one still holds what it held
        let counts = self.engine.evaluate(two, &more).await.unwrap();
        assert!(counts.cached > 0 || !self.engine.about().rewinds);
    }

    async fn garbage_is_refused_and_the_slot_is_clean(&self) {
        let one = self.slot(0).await;
        let ids = self.ids(STORY).await;
        self.engine.evaluate(one, &ids).await.unwrap();
        let state = self.engine.export(one).await.unwrap();
        let bytes = fs::read(state.path()).unwrap();
        let cut = bytes[..bytes.len() / 2].to_vec();
        for bytes in [vec![7; 4096], Vec::new(), cut] {
            let garbage = self.engine.new_state().unwrap().with_tokens(ids.clone());
            fs::write(garbage.path(), bytes).unwrap();
            let error = self.engine.admit(one, garbage).await.unwrap_err();
            assert!(matches!(error, EngineError::Unsuitable(_)), "{error}");
        }
        self.engine.erase(one).await.unwrap();
        assert_eq!(self.engine.evaluate(one, &ids).await.unwrap().cached, 0);
        drop(state);
        self.nothing_is_left();
    }

    async fn nothing_is_left_by_a_reader_that_goes(&self) {
        let one = self.slot(0).await;
        let ids = self.ids(STORY).await;
        let room = self.engine.about().context - u64::try_from(ids.len()).unwrap() - 8;
        let body = json!({ "prompt": ids, "max_tokens": room, "temperature": 0, "stream": true, "ignore_eos": true });
        let mut answer = self
            .engine
            .answer(one, Asked::completion(body))
            .await
            .unwrap();
        answer.events.next().await.unwrap().unwrap();
        drop(answer);
        let next = timeout(Duration::from_secs(20), self.engine.evaluate(one, &ids));
        let counts = next.await.unwrap().unwrap(); // the slot is free again
        assert!(counts.cached > 0 || !self.engine.about().rewinds);
    }

    async fn a_kill_is_a_loss_and_no_more(&self) {
        let before = self.slot(0).await;
        let body = json!({ "prompt": STORY, "max_tokens": 64, "temperature": 0, "stream": true, "ignore_eos": true });
        let answer = self
            .engine
            .answer(before, Asked::completion(body))
            .await
            .unwrap();
        kill(&processes(self.mark));
        assert_eq!(read(answer).await.unwrap_err(), EngineError::Lost);
        wait_for(self.engine, before.generation + 1).await;
        let refused = self.engine.answer(before, likeliest(STORY)).await;
        assert_eq!(refused.unwrap_err(), EngineError::Lost);
        let one = self.slot(0).await;
        let answer = self.engine.answer(one, likeliest(STORY)).await.unwrap();
        assert_eq!(answer.reused.cached, 0);
        read(answer).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        self.nothing_is_left();
    }

    /// A state's bytes and ids in a new file, as a capsule would give them back.
    fn copy(&self, state: &kvcap_engines::StateFile) -> kvcap_engines::StateFile {
        let again = self.engine.new_state().unwrap();
        fs::write(again.path(), fs::read(state.path()).unwrap()).unwrap();
        match state.tokens() {
            Some(tokens) => again.with_tokens(tokens.to_vec()),
            None => again,
        }
    }

    fn nothing_is_left(&self) {
        let state = self.engine.new_state().unwrap();
        let folder = state.path().parent().unwrap();
        let left: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let left: Vec<_> = left
            .iter()
            .filter(|name| *name != "lock" && **name != *state.name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
