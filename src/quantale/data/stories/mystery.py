"""Mystery plots: something is missing or strange; clues lead to the answer."""

from quantale.data.stories.grammar import Plot

MISSING = Plot(
    name="missing",
    hero="child",
    friend="child",
    prompts=(
        "The {thing} is missing. {hero} and {friend} follow the clues.",
        "{hero} the detective finds out where the {thing} is.",
    ),
    slots={
        "thing": (
            *("silver cup", "golden key", "red hat", "blue blanket", "green hat"),
            *("silver bell", "left shoe"),
        ),
        "owner": ("the cook", "the teacher", "the farmer", "the painter"),
        "thief|clue|use": (
            "black bird|a black feather|its nest in a tall tree",
            "squirrel|an empty nut|a hole in an old tree",
            "puppy|small wet marks|its basket behind the door",
            "mouse|a few crumbs|its bed under the stairs",
            "goat|some white hair|the barn where it lived",
        ),
        "wrong": ("the neighbor", "a ghost", "the old man", "a stranger"),
    },
    paragraphs=(
        (
            (
                "{hero} and {friend} were the best detectives in town.",
                "{hero} wanted to be a detective, and {friend} helped {him}.",
            ),
            (
                '{Day}, {owner} came to them. "My {thing} is gone!"',
                '"I cannot find my {thing}!" {owner} told them {day}.',
            ),
            (
                '"We will find it," said {hero}.',
                '"This is a case for us," said {friend}.',
            ),
        ),
        (
            (
                "First they looked for clues.",
                "They went to the place where it had been and looked around.",
            ),
            ("On the ground {hero} found {clue}.", "By the door {friend} saw {clue}."),
            (
                '"I think it was {wrong}," said {friend}.',
                '"Was it {wrong}?" asked {friend}.',
            ),
            (
                '"No," said {hero}. "The clue says something new."',
                '"I do not think so," said {hero}. "Look at it closely."',
            ),
            ('"Who leaves {clue}?" asked {hero}.', "{hero} thought about it for a long time.", ""),
        ),
        (
            (
                "They followed the marks around the house and through the garden.",
                "They followed the marks step by step and were very quiet.",
            ),
            (
                "{Then} something moved. It was {a_thief}!",
                "And what did they find? It was {a_thief}!",
            ),
            ("The {thief} had carried the {thing} to {use}.",),
            (
                '"So you are the thief!" said {hero}, and {he} laughed.',
                '"That is the answer!" cried {friend}.',
            ),
        ),
        (
            (
                "They gave the {thief} a ball to play with.",
                "The {thief} looked at them with big eyes.",
                "",
            ),
            (
                "Then they took the {thing} back. {Owner} was very {glad}.",
                '"Thank you, detectives!" said {owner}, who was {glad} to have the {thing} back.',
            ),
            (
                '"Every clue can tell a story," said {hero}.',
                '"Another case is closed," said {friend}.',
                "And the two detectives waited for the next case.",
            ),
        ),
    ),
)

STRANGE = Plot(
    name="strange",
    hero="child",
    friend="child",
    prompts=(
        "Every night there is a strange {sign} in {place}. {hero} wants to know why.",
        "{hero} and {friend} find the answer to the mystery of {place}.",
    ),
    slots={
        "place": ("the old barn", "the empty house", "the school", "the tower", "the cave"),
        "sign": ("light", "shadow"),
        "answer|reason": (
            "a family of owls|they had made their nest there",
            "a cat with three little ones|they wanted a warm place to sleep",
            "an old man with a lamp|he had lost his golden ring there",
            "two raccoons|they loved to play there",
            "a painter|she wanted to paint the moon",
        ),
        "rumor": ("a ghost", "a giant", "a monster", "a witch"),
    },
    paragraphs=(
        (
            (
                "There was something strange about {place}.",
                "People told strange stories about {place}.",
            ),
            ("Every night there was a {sign}, and nobody knew why.",),
            ('"It is {rumor}," people said.', "Some said that {rumor} lived there."),
            (
                '"I do not believe that," said {hero}. "I will find out."',
                'But {hero}, {a_trait} {kind}, said, "There must be an answer."',
            ),
        ),
        (
            (
                "That night, {he} took a lamp and went there with {friend}.",
                '"Come with me tonight," {he} told {friend}. They took a lamp and went.',
            ),
            (
                "They sat down behind a wall and waited.",
                "They waited in the dark for a long time.",
            ),
            (
                'Then it came. "There is the {sign}!" said {friend} in a low voice.',
                '"Look! The {sign}!" said {friend} in a low voice.',
            ),
            (
                "{friend} was so scared that {he2} took {his} hand.",
                '"Let us go home," said {friend}. "I am scared."',
                "",
            ),
        ),
        (
            (
                "{hero} found a clue: the door was open, and there were marks on the ground.",
                "{hero} saw fresh marks on the ground. That was a clue!",
            ),
            (
                '"A ghost does not leave marks," {he} said.',
                '"Now we know that it is somebody with feet," {he} said.',
            ),
            ("Slowly they went in.", "They opened the door, step by step."),
            ("And what did they find? It was {answer}!", "It was not {rumor}. It was {answer}!"),
            ("Now they knew the answer: {reason}.", "That was all: {reason}."),
        ),
        (
            (
                '"So that was the strange {sign}," said {friend}.',
                '"And people said that it was {rumor}!" said {friend}, and {he2} laughed.',
            ),
            (
                "The next day, they told everybody what they had found.",
                "They came back with something to eat.",
            ),
            (
                '"You only have to look closely," said {hero}.',
                "And nobody was afraid of {place} any more.",
                "After that, people called them the two detectives.",
            ),
        ),
    ),
)

LETTER = Plot(
    name="letter",
    hero="child",
    friend="child",
    prompts=(
        "{hero} finds a strange letter. The clues lead to {end}.",
        "A mystery with three clues and a birthday in {end}.",
    ),
    slots={
        "end": ("the garden", "the barn", "the tree house", "the kitchen", "the old tower"),
        "found": ("under {his} bed", "in {his} shoe", "on the stairs", "in {his} school bag"),
        "one|two": (
            "behind the oak|under the boat",
            "at the school|in the nest",
            "at the river|under the bell",
            "by the pond|behind the wall",
        ),
        "gift": ("a birthday cake", "a new kite", "a little puppy", "a drum"),
    },
    paragraphs=(
        (
            (
                "{Day}, {hero} found a letter {found}.",
                "There was a letter {found}. {hero} had never seen it before.",
            ),
            ("There was no name on it.", "Nobody had put a name on it.", ""),
            ('"Look {one}," it said.', 'It had only a few words: "Look {one}."'),
            (
                '"A mystery!" cried {hero}, and {he} called {his} friend {friend}.',
                '{He} showed it to {friend}. "That is a clue," said {friend}.',
            ),
        ),
        (
            (
                "They thought about it, and then they ran to the right place.",
                "They knew the place, and they ran there as fast as they could.",
            ),
            (
                "There they found another letter.",
                "Under a stone was the next clue.",
            ),
            ('"Now look {two}," {hero} read.', 'It said, "Go on and look {two}."'),
            (
                '"Who wrote this?" asked {friend}.',
                '"Who can it be?" asked {hero}. "I want to know."',
                "{friend} smiled a little, but {he2} said nothing.",
            ),
        ),
        (
            (
                "They found the last clue on a string.",
                "Soon they had the last letter in their hands.",
            ),
            ('"Come to {end}," it said.', '"The answer is in {end}," it said.'),
            (
                "{hero} went in first. It was dark and quiet.",
                "Slowly, {hero} opened the door.",
            ),
            (
                '"Happy birthday!" cried many voices.',
                'Then there was light. "Happy birthday!"',
            ),
        ),
        (
            (
                "All {his} friends were there, and they had {gift} for {him}.",
                "{His} whole family was there with {gift}.",
            ),
            (
                '"Did you like my letters, {hero}?" asked {friend}.',
                '"It was me all the time!" said {friend}, and {he2} laughed.',
            ),
            (
                '"You are a very good detective," said {friend}.',
                "The mystery was solved, and they danced all night.",
                '"That was the best mystery of all," said {hero}.',
            ),
        ),
    ),
)

CAKE = Plot(
    name="cake",
    hero="child",
    friend="child",
    prompts=(
        "Somebody ate the {cake}. {hero} looks for clues.",
        "{friend} says that {he2} did not eat the {cake}. Who did?",
    ),
    slots={
        "cake": ("apple cake", "apple pie", "cheese", "bread", "nut cake"),
        "cook": ("Mom", "Dad", "Grandma", "Grandpa"),
        "eater|trace": (
            "the dog|dog hair on the chair",
            "the cat|small marks on the table",
            "the little pony|some grass on the floor",
            "a white duck|a white feather on the table",
        ),
        "alibi": ("I was at school", "I was in the garden", "I was with my aunt", "I was asleep"),
    },
    paragraphs=(
        (
            (
                "{cook} had made some {cake} and put it by the window.",
                "There was fresh {cake} on the kitchen table. {cook} had made it.",
            ),
            (
                "But when {hero} and {friend} came in, it was gone!",
                "When {hero} and {friend} wanted to have some, there was nothing left!",
            ),
            ('"Who ate it?" asked {cook}.', '"Somebody ate it all!" cried {hero}.'),
        ),
        (
            (
                'Everybody looked at {friend}. "It was not me," {he2} said. "{alibi}."',
                '"{friend}, was it you?" asked {hero}. "No," said {friend}. "{alibi}."',
            ),
            (
                '"I believe you," said {hero}. "I will find out who it was."',
                "{hero} believed {him2}. They were best friends.",
            ),
            (
                "{He} looked everywhere for clues.",
                "Like a real detective, {he} looked at everything.",
            ),
            (
                "On the floor there were crumbs, all the way to the door.",
                "The window was open. That was the first clue.",
            ),
        ),
        (
            ("{Then} {he} saw {trace}.", "And there was one more clue: {trace}."),
            (
                '"Now I know!" said {hero}. "Follow me!"',
                '"I have an idea," said {hero}. "Come with me, {friend}."',
            ),
            (
                "They went outside and looked behind the house.",
                "They followed the crumbs through the garden.",
            ),
            (
                "There lay {eater}, fast asleep, with crumbs on its nose.",
                "There they found {eater}. It still had crumbs on its nose.",
            ),
        ),
        (
            (
                '"So it was {eater}!" said {friend}. "Thank you, {hero}."',
                "Everybody laughed, and {friend} most of all.",
            ),
            (
                "{cook} made some more {cake}, and this time the window stayed closed.",
                "Then {cook} made new {cake}, and they all had some.",
            ),
            (
                "The case was closed.",
                '"A good detective looks at everything," said {hero}.',
            ),
        ),
    ),
)

PLOTS = (MISSING, STRANGE, LETTER, CAKE)
