"""Adventure plots: children who set out, meet an obstacle, get past it and come home."""

from quantale.data.stories.grammar import Plot

MAP = Plot(
    name="map",
    hero="child",
    friend="child",
    prompts=(
        "{hero} and {friend} follow an old map to {place} and look for treasure.",
        "Two children find a map with a red cross on {place}.",
    ),
    slots={
        "place": (
            *("the old castle", "the little island", "the green valley", "the dark forest"),
            *("the high mountain", "the far side of the lake", "the lonely beach"),
        ),
        "spot": ("under the stairs", "in an old book", "in an old box", "behind a picture"),
        "obstacle|way": (
            "a wide river|walked over the water on a fallen tree",
            "a wall of stone|found a small hole and went through it",
            "a deep lake|made a small boat out of wood",
            "a high rock|used the rope and climbed over it",
            "a dark tunnel|held the lamp up high and went in, hand in hand",
        ),
        "treasure": (
            *("a golden crown", "a bag of gold", "a silver cup"),
            *("a golden bell", "a silver ring"),
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was {a_trait} {kind} who loved to explore.",
                "Once there was {a_trait} {kind} named {hero}.",
                "{hero} was {a_little} {kind} who wanted to see the world.",
            ),
            ("{Day}, {he} found an old map {spot}.",),
            (
                "On the map there was a red cross, right on {place}.",
                "The map showed the way to {place}, and there was a red cross on it.",
            ),
            (
                '"{friend}, look at this!" said {hero}. "Let us find the treasure!"',
                '{hero} ran to {friend}. "Come with me," {he} said. "We will find treasure!"',
                '{He} showed it to {his} friend {friend}. "A treasure map!" cried {friend}.',
            ),
        ),
        (
            (
                "The two friends took some bread, a rope and a lamp.",
                "They took a rope, a lamp and two apples, and off they went.",
            ),
            ("They walked for a long time.", "They sang as they walked.", ""),
            (
                "Soon they came to {obstacle}.",
                "They walked up a hill and down again, and there was {obstacle}.",
            ),
            (
                '"How can we go on?" asked {friend}.',
                '"Oh no," said {friend}. "We will never get past this."',
                "{friend} wanted to turn back.",
            ),
            (
                "{hero} thought hard, and then {he} had an idea.",
                '"I have an idea," said {hero}.',
                '{hero} was not afraid. "We only have to think," {he} said.',
            ),
            ("Together they {way}.", "So they {way}."),
        ),
        (
            ("{Atlast} they came to {place}.", "When the sun was high, they came to {place}."),
            (
                "They looked everywhere, and soon they found an old box.",
                "Under a flat stone they found a wooden box.",
            ),
            ("In it was {treasure}!", "They opened it, and there was {treasure}!"),
            (
                '"We did it!" cried {friend}.',
                "{friend} laughed and danced.",
                '"It is wonderful," said {friend}.',
            ),
        ),
        (
            (
                "They carried the treasure home before it was dark.",
                "They took it home and told everybody how they had found it.",
            ),
            (
                "From that day on, everybody wanted to go with them.",
                "That night, {hero} was too happy to sleep.",
                "{hero} kept the old map, because it always made {him} smile.",
            ),
        ),
    ),
)

RESCUE = Plot(
    name="rescue",
    hero="child",
    friend="child",
    prompts=(
        "{hero} and {friend} hear a cry near {place} and save {a_animal}.",
        "{A_animal} is in trouble near {place}. Two children come to help.",
    ),
    slots={
        "animal": ("lamb", "cat", "puppy", "goat", "pony"),
        "place": ("the waterfall", "the river", "the old castle", "the high hills"),
        "trap|fix": (
            "had fallen into a deep hole|pulled it out with a rope",
            "was stuck under a branch|pushed the branch away with a long stick",
            "had lost its way|found the right path again",
            "stood on a stone in the deep water|went into the water and brought it out",
        ),
        "gift": ("a small wooden boat", "a warm apple pie", "a new rope", "two red hats"),
    },
    paragraphs=(
        (
            (
                "{hero} and {friend} wanted to have a real adventure.",
                "{hero} and {friend} were two {trait} children who were never bored.",
                "{hero} was {a_trait} {kind}, and {friend} was {his} best friend.",
            ),
            (
                "{Day}, they walked to {place}.",
                "{Day}, they went to explore {place}.",
            ),
            (
                "{Then} they heard a cry.",
                '{Then} {friend} stopped. "Did you hear that?" {he2} asked.',
            ),
        ),
        (
            (
                "They ran to look, and there was {a_animal}.",
                "Behind a bush they saw {a_little} {animal}.",
            ),
            ("It {trap}.", "The {animal} {trap}."),
            ("It was cold and very scared.", "It looked at them with big, sad eyes.", ""),
            (
                '"We must help it," said {hero}.',
                '"Do not be afraid," {hero} told it. "We will help you."',
            ),
            (
                '"But it is dangerous," said {friend}.',
                '"I will do it with you," said {friend}.',
                "{friend} was scared, but {he2} wanted to help too.",
            ),
        ),
        (
            (
                "They looked around for something to use.",
                "They worked as fast as they could.",
                "It was hard work.",
            ),
            ("{Atlast} they {fix}.",),
            (
                "The {animal} was safe!",
                '"You are safe now," said {friend}, and {he2} hugged the {animal}.',
            ),
        ),
        (
            (
                "A farmer came up the path. He had looked for his {animal} all day.",
                "They took the {animal} home, where the farmer looked for it everywhere.",
            ),
            (
                '"Thank you, {hero} and {friend}," said the farmer. "That was very brave."',
                '"You saved my {animal}!" said the farmer. "How can I thank you?"',
            ),
            ("He gave them {gift}.", "Then he gave them {gift} to take home."),
            (
                "It was the best adventure they had ever had.",
                "{hero} and {friend} walked home, tired and proud.",
                "After that, the {animal} always ran to meet them.",
            ),
        ),
    ),
)

STORM = Plot(
    name="storm",
    hero="child",
    friend="child",
    prompts=(
        "{hero} and {friend} sail in a small boat, a storm comes, and {a_helper} helps them.",
        "Two children are lost at sea until they meet {a_helper}.",
    ),
    slots={
        "helper": ("big fish", "turtle"),
        "goal": ("the little island", "the next island", "the white rocks", "the lonely beach"),
        "food": ("some nuts", "some berries", "two sweet apples"),
        "color": ("red", "blue", "yellow", "green", "white"),
    },
    paragraphs=(
        (
            (
                "{hero} and {friend} had a small {color} boat.",
                "{hero} lived by the sea and had a {color} boat.",
            ),
            (
                "{Day}, {hero} and {his} friend {friend} went out to {goal}.",
                '"Let us go to {goal}," {hero} said to {friend} {day}, and so they did.',
            ),
            ("The sea was calm and the sky was blue.", "The wind was soft and warm."),
        ),
        (
            (
                "But then dark clouds came, and the water grew wild.",
                "{Then} the sky turned black, and the wind grew strong.",
            ),
            ('"Hold my hand!" cried {hero}.', '"A storm!" cried {friend}. "I am scared!"'),
            (
                "The storm carried the boat far away, to a beach they did not know.",
                "The wind took them far out, to a strange island.",
            ),
            ('"Are we lost?" asked {friend}.', "{friend} began to cry.", "Now they were lost."),
        ),
        (
            (
                '"Do not worry," said {hero}. "We will find a way."',
                '{hero} took {his2} hand. "We are together," {he} said. "All will be well."',
            ),
            (
                "{friend} found {food}, and they ate.",
                "They looked for food, and {friend} found {food}.",
            ),
            (
                "The next morning, {a_helper} came close to the beach.",
                "When the storm was over, they saw {a_helper} in the water.",
            ),
            (
                '"Follow me," said the {helper}. "I know the way."',
                '"You look lost," said the {helper}. "I can show you the way home."',
            ),
        ),
        (
            (
                "They followed the {helper} all day.",
                "The {helper} went first, and the {color} boat followed.",
            ),
            ("{Atlast} they saw {goal}, and then their home.",),
            (
                '"Thank you, dear {helper}!" they called.',
                '"Take care, little friends!" called the {helper}, and it was gone.',
            ),
            (
                "{hero} and {friend} never forgot their friend in the sea.",
                "Their mothers ran to the beach and hugged them both.",
                "From then on, they always looked at the sky first.",
            ),
        ),
    ),
)

SUMMIT = Plot(
    name="summit",
    hero="child",
    friend="child",
    prompts=(
        "{hero} wants to climb the mountain to see {sight}.",
        "{hero} and {friend} climb a high mountain and do not give up.",
    ),
    slots={
        "sight": (
            *("the whole valley", "the sea", "the whole world", "the first snow"),
            *("the lake in the clouds", "the sun come up"),
        ),
        "trouble|answer": (
            "it began to rain|waited under a big rock until the rain had stopped",
            "the fog came down|walked hand in hand and followed the white stones",
            "the path was gone|looked for a new path and found it behind a rock",
            "they were very tired|sat down and sang a song",
        ),
        "elder": ("grandmother", "grandfather", "aunt", "uncle"),
    },
    paragraphs=(
        (
            (
                "{hero} lived in a village under a high mountain.",
                "From {his} window, {hero} could see a high mountain.",
            ),
            (
                '"From the top you can see {sight}," {his} {elder} had told {him}.',
                "{His} {elder} had once been at the top and had seen {sight} from there.",
            ),
            (
                '{Day}, {hero} said to {friend}, "Let us climb it!"',
                "{Day}, {hero} and {his} friend {friend} went out to climb it.",
            ),
        ),
        (
            (
                "They walked past trees and flowers.",
                "The path went up and up.",
                "At first the climb was easy.",
            ),
            ("But after a long time {trouble}.",),
            (
                '"I want to go home," said {friend}.',
                '"We will never get there," said {friend}, and {he2} sat down.',
            ),
            (
                '"We have come so far," said {hero}. "We can do it, one step at a time."',
                '"Do not give up," said {hero}. "I will help you."',
            ),
            ("So they {answer}.", "They {answer}."),
        ),
        (
            ("Then they went on.", "After that, they went on, one step after another."),
            ("{Atlast} they came to the top.", "{Atlast} they stood on the top."),
            (
                "And there it was: they could see {sight}!",
                "They looked around, and they saw {sight}!",
            ),
            (
                '"It is wonderful," said {friend}. "Thank you for your help, {hero}."',
                "{friend} forgot how tired {he2} was.",
                '"I am so {glad} that we went on," said {friend}.',
            ),
        ),
        (
            (
                "They put a flat stone there to remember the day.",
                "They ate their bread and cheese at the top of the world.",
                "",
            ),
            ("In the evening they were home again.", "Then they went down, hand in hand."),
            (
                '"Now I can tell stories about it too," said {hero}.',
                "{His} {elder} was very proud of {him}.",
                "Now {hero} smiled each time {he} looked at the mountain.",
            ),
        ),
    ),
)

PLOTS = (MAP, RESCUE, STORM, SUMMIT)
