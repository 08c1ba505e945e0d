//! Vaudenay's attack on the padding of data without a tag: who can write to etcd and
//! make kube-apiserver read cuts the tag off a wrapped seed, and learns the seed from
//! how alterations of it are answered. Here the answers must all be alike.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use barbican_kms::envelope::{self, Untagged, WrappingKey};
use barbican_kms::proto::v2;
use barbican_kms::secret::KekWriter;

use crate::support::client::{SEED, refusal, request};
use crate::support::cloud::{KEY, Recorder, cloud_config, key_id};
use crate::support::sidecar::Place;

const BLOCK: usize = 16;

type Block = [u8; BLOCK];

/// An IV and three blocks: the seed's two, and one of padding.
fn sealed() -> Vec<u8> {
    let sealed = envelope::seal(&key(), &key_id(), SEED, &[0x5a; BLOCK]);
    sealed.expect("it fits").ciphertext
}

fn key() -> WrappingKey {
    let mut writer = KekWriter::new();
    writer.push(&KEY);
    WrappingKey::new(&writer.finish().expect("a key"))
}

fn block(ciphertext: &[u8], number: usize) -> Block {
    let (blocks, _) = ciphertext.as_chunks();
    blocks[number]
}

/// What `target` decrypts to, from how each of 256 forgeries for each byte is answered:
/// `front`, a block that is altered, `target`. `None` as soon as all 256 are answered
/// alike.
async fn attack(
    front: &[Block],
    before: Block,
    target: Block,
    mut oracle: impl AsyncFnMut(Vec<u8>) -> String,
) -> Option<Block> {
    // What AES makes of `target`, before CBC adds the block before it.
    let mut inner = [0; BLOCK];
    for place in (0..BLOCK).rev() {
        let padding = u8::try_from(BLOCK - place).expect("small");
        let mut altered = [0xc3; BLOCK];
        for (altered, inner) in altered.iter_mut().zip(inner).skip(place) {
            *altered = inner ^ padding;
        }
        let mut answers = Vec::new();
        for guess in 0..=u8::MAX {
            altered[place] = guess;
            answers
                .push(oracle([front.concat(), altered.to_vec(), target.to_vec()].concat()).await);
        }
        let odd = (0..=u8::MAX).find(|guess| {
            let answer = &answers[usize::from(*guess)];
            answers.iter().filter(|other| *other == answer).count() == 1
        })?;
        inner[place] = odd ^ padding;
    }
    Some(std::array::from_fn(|at| inner[at] ^ before[at]))
}

/// The attack on both blocks of the seed, by forgeries of two, three and four blocks.
async fn attack_seed(
    sealed: &[u8],
    mut oracle: impl AsyncFnMut(Vec<u8>) -> String,
) -> Vec<Option<Block>> {
    let mut learnt = Vec::new();
    for front in [&[][..], &[[1; BLOCK]], &[[1; BLOCK], [2; BLOCK]]] {
        for number in 1..=2 {
            let (before, target) = (block(sealed, number - 1), block(sealed, number));
            learnt.push(attack(front, before, target, &mut oracle).await);
        }
    }
    learnt
}

#[tokio::test]
async fn the_attack_works_where_padding_is_told_apart() {
    let learnt = attack_seed(&sealed(), async |forged| {
        let (iv, body) = forged.split_at(BLOCK);
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&KEY, iv).expect("lengths");
        let mut plaintext = vec![0; body.len()];
        let opened = cipher.decrypt_padded_b2b::<Pkcs7>(body, &mut plaintext);
        format!("{:?}", opened.map(drop))
    })
    .await;
    let (first, second) = (block(SEED, 0), block(SEED, 1));
    assert_eq!(learnt, [Some(first), Some(second)].repeat(3));
}

#[tokio::test]
async fn open_gives_nothing_away() {
    let key = key();
    let learnt = attack_seed(&sealed(), async |forged| {
        let opened = envelope::open(&key, &key_id(), &forged, None, Untagged::Accept);
        format!("{:?}", opened.map(drop))
    })
    .await;
    assert_eq!(learnt, [None; 6]);
}

#[tokio::test]
async fn the_socket_gives_nothing_away_of_a_seed_whose_tag_was_cut_off() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let wrapped = client.round_trip().await;
    let mut untagged = request(&wrapped);
    untagged.annotations.clear();
    assert_eq!(client.send(untagged.clone()).await.expect("a seed"), SEED);

    let mut answers = std::collections::BTreeSet::new();
    let learnt = attack_seed(&wrapped.ciphertext, async |forged| {
        let forged = v2::DecryptRequest {
            ciphertext: forged,
            ..untagged.clone()
        };
        let (code, text) = refusal(client.send(forged).await);
        let answer = format!("{code:?} {text}");
        answers.insert(answer.clone());
        answer
    })
    .await;
    assert_eq!(learnt, [None; 6]);
    let answer = "InvalidArgument the ciphertext is damaged, or was not made with this key";
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [answer]);
}
