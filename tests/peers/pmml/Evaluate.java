import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import org.jpmml.evaluator.Evaluator;
import org.jpmml.evaluator.EvaluatorUtil;
import org.jpmml.evaluator.InputField;
import org.jpmml.evaluator.LoadingModelEvaluatorBuilder;

/** What an evaluator of PMML answers to the rows that travel with an export: a line each, as CSV. */
public class Evaluate {
    static List<String> fields(String line) {
        List<String> found = new ArrayList<>();
        StringBuilder field = new StringBuilder();
        boolean quoted = false;
        for (char sign : line.toCharArray()) {
            if (sign == '"') quoted = !quoted;
            else if (sign == ',' && !quoted) { found.add(field.toString()); field.setLength(0); }
            else field.append(sign);
        }
        found.add(field.toString());
        return found;
    }

    public static void main(String[] words) throws Exception {
        List<Evaluator> evaluators = new ArrayList<>();
        for (String answer : List.of("mean", "log_mean"))
            evaluators.add(new LoadingModelEvaluatorBuilder().load(new File(words[0], answer + ".pmml")).build().verify());
        var packed = new GZIPInputStream(new FileInputStream(new File(words[0], "holdout.csv.gz")));
        StringBuilder out = new StringBuilder();
        try (var lines = new BufferedReader(new InputStreamReader(packed, StandardCharsets.UTF_8))) {
            List<String> head = fields(lines.readLine());
            for (String line; (line = lines.readLine()) != null;) {
                List<String> row = fields(line);
                for (int i = 0; i < evaluators.size(); i++) {
                    Map<String, Object> given = new LinkedHashMap<>();
                    for (InputField field : evaluators.get(i).getInputFields()) {
                        String value = row.get(head.indexOf(field.getName()));
                        given.put(field.getName(), field.prepare(value.isEmpty() ? null : value));
                    }
                    Object said = EvaluatorUtil.decodeAll(evaluators.get(i).evaluate(given)).get(i == 0 ? "mean" : "log_mean");
                    out.append(said).append(i == 0 ? "," : "\n");
                }
            }
        }
        System.out.print(out);
    }
}
