"""Writes pairs.jsonl: instructions with a good and a flawed answer, in random places, and the label.

python pairs.py
"""

import json
import random
from pathlib import Path

PAIRS = [
    ("Name the capital of Portugal.", "Lisbon.", "Madrid."),
    ("Give the plural of 'mouse', the animal.", "mice", "mouses"),
    ("What is 17 + 26?", "43", "33"),
    ("Name three primary colours of light.", "Red, green and blue.", "Red and green."),
    ("Answer with one word: is water wet or dry?", "Wet", "Most people would say that water is a wet thing."),
    ("Translate 'good morning' to French.", "Bonjour", "Bonne nuit"),
    ("Write the number twelve in digits.", "12", "twelve"),
    ("Sort these numbers upwards: 9, 2, 5.", "2, 5, 9", "9, 5, 2"),
    ("Which month comes after April?", "May", "March"),
    ("Spell 'cat' backwards.", "tac", "cta"),
    (
        "Say in at most five words why we sleep.",
        "To rest body and mind.",
        "We sleep because, as studies of many kinds of animals show, the brain needs time in which it is not busy.",
    ),
    ("Give the chemical formula of water.", "H2O", "CO2"),
    ("How many legs does a spider have?", "Eight.", "Six."),
    ("Rewrite in the past tense: 'I walk home.'", "I walked home.", "I will walk home."),
    ("Make this polite: 'Give me the salt.'", "Could you please pass me the salt?", "Salt. Now."),
    ("List two fruits, one on each line.", "apple\npear", "apple, pear"),
    ("What is the opposite of 'early'?", "late", "soon"),
    ("Convert 2 km to metres.", "2000 m", "200 m"),
    ("Who wrote 'Hamlet'?", "William Shakespeare", "Charles Dickens"),
    ("Correct the spelling: 'recieve'.", "receive", "receeve"),
    ("Write a sentence with the word 'lamp'.", "The lamp on my desk is green.", "Desks are often green."),
    ("Answer yes or no: is 7 a prime number?", "Yes", "7 is only divisible by some numbers, so it depends."),
    ("How many minutes are in two hours?", "120", "90"),
    ("Give a synonym of 'quick'.", "fast", "slow"),
    ("Finish the sequence: 2, 4, 6, 8, …", "10", "9"),
    ("Put into upper case: 'stop'.", "STOP", "Stop"),
    ("What do bees make?", "Honey and wax.", "Silk."),
    ("Which is heavier, a kilogram of iron or a kilogram of wool?", "They weigh the same.", "The iron."),
    (
        "Summarise in one sentence: 'It rained all day. The river rose. The bridge was closed.'",
        "After a day of rain the river rose and the bridge was closed.",
        "Bridges are built of steel and stone.",
    ),
    ("Give the date of New Year's Day as day and month.", "1 January", "31 December"),
    ("What is half of 50?", "25", "20"),
    ("Name a country in South America.", "Peru", "Portugal"),
    ("Remove the vowels from 'table'.", "tbl", "tabl"),
    ("Which planet do we live on?", "Earth", "Mars"),
    (
        "Write a title of at most three words for a story of a lost dog.",
        "Finding Rex",
        "The long and rather sad story of a dog that was lost and then found",
    ),
    (
        "Is a tomato a fruit, as botanists say? Give a reason.",
        "Yes: it grows from the flower and holds the seeds.",
        "Yes.",
    ),
    ("Count the letters in 'garden'.", "6", "7"),
    ("How do you say 'thank you' in German?", "Danke", "Bitte"),
    ("Put into alphabetical order: pear, apple, fig.", "apple, fig, pear", "fig, apple, pear"),
    ("What is the boiling point of water at sea level in °C?", "100 °C", "212 °C"),
    ("Write a rhyme for 'light'.", "night", "lamp"),
    (
        "Explain to a child in one sentence what a map is.",
        "A map is a small picture of a big place, seen from above.",
        "A map is a projection of geodetic coordinates onto a plane.",
    ),
    ("Give an example of a mammal that lives in the sea.", "A whale.", "A shark."),
    ("Reply to 'How are you?' in a friendly way.", "I'm very well, thank you! And you?", "Why do you ask."),
    ("What is 9 times 8?", "72", "81"),
    ("Which word does not belong: red, blue, chair, green?", "chair", "blue"),
    ("Give the square root of 81.", "9", "8"),
    ("Name the largest ocean.", "The Pacific Ocean.", "The Atlantic Ocean."),
    ("Turn into a question: 'She likes tea.'", "Does she like tea?", "She does like tea."),
    ("Write 0.5 as a fraction.", "1/2", "5/100"),
    ("Say what a thermometer measures.", "Temperature.", "Air pressure."),
    ("Give two examples of metals.", "Iron and copper.", "Iron and oak."),
    ("Which day comes two days after Monday?", "Wednesday", "Tuesday"),
    ("Answer in Spanish: what colour is snow?", "Blanca", "White"),
    ("Abbreviate 'kilometre'.", "km", "kg"),
    ("Replace the name by a pronoun: 'Anna sings.'", "She sings.", "Anna sings well."),
    ("How many sides has a hexagon?", "6", "8"),
    ("Tell me the next leap year after 2024.", "2028", "2026"),
    ("Name the author of the theory of general relativity.", "Albert Einstein", "Isaac Newton"),
    ("Suggest a healthy snack, without nuts.", "Carrots with hummus.", "A handful of almonds."),
    ("Write a greeting for a birthday card.", "Happy birthday, and a wonderful year!", "Get well soon!"),
    ("Which gas do plants take in for photosynthesis?", "Carbon dioxide.", "Oxygen."),
    ("Give the initials of 'United Nations'.", "UN", "UNO and EU"),
    ("Round 3.7 to a whole number.", "4", "3"),
]
SPLITS = {"train": 24, "val": 40}


def main():
    """Write the file; which answer stands first, and in which split a pair is, is drawn."""
    rng = random.Random(0)
    order = rng.sample(PAIRS, len(PAIRS))
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    rows = []
    for place, ((instruction, good, flawed), split) in enumerate(zip(order, splits, strict=True)):
        label = 1 + place % 2
        one, two = (good, flawed) if label == 1 else (flawed, good)
        row = {"id": f"pair-{place}", "instruction": instruction, "output_1": one, "output_2": two, "label": label}
        rows.append({**row, "split": split})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (Path(__file__).parent / "pairs.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
